//! Keys on disk.

use std::path::Path;
use std::sync::Mutex;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::keys::{keys, some_round};
use crate::error::ProofError;
use crate::keys::{Circuit, Keys, Origin, list};
use crate::progress::Stage;
use crate::proof::prove;
use crate::size::Size;

fn open(folder: &Path) -> Result<Option<Keys>, ProofError> {
    Keys::open(folder, Size::N16, &())
}

#[test]
fn keys_survive_the_disk_and_damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(open(&folder.join("none")).unwrap().is_none());
    assert!(open(folder).unwrap().is_none());
    let path = keys().save(folder).unwrap();
    assert!(path.to_string_lossy().contains("insecure-development"));
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), keys().encoded_len());
    let again = open(folder).unwrap().unwrap();
    assert_eq!(again.origin(), Origin::Development);
    let mut rng = StdRng::seed_from_u64(5);
    let (data, proof) = prove(&again, &some_round(), &mut rng).unwrap();
    keys().verifying().verify(&data, &proof).unwrap();

    let damaged = |damage: &dyn Fn(&mut Vec<u8>)| {
        let mut other = bytes.clone();
        damage(&mut other);
        std::fs::write(&path, other).unwrap();
        // A damaged key is not replaced by another.
        let made = Keys::open_or_make(folder, Size::N16, &()).unwrap_err();
        assert_eq!(open(folder).unwrap_err().to_string(), made.to_string());
        made
    };
    let last = bytes.len() - 1;
    for damage in [0, 22, 23, 60, 90, last] {
        let error = damaged(&|bytes| bytes[damage] ^= 1);
        assert!(matches!(error, ProofError::KeyFile { .. }), "{damage}");
    }
    let error = damaged(&|bytes| bytes[24] ^= 1);
    assert!(matches!(error, ProofError::OtherCircuit { .. }));
    // Named ceremony, but not from one.
    let error = damaged(&|bytes| bytes[23] = 2);
    assert!(matches!(error, ProofError::KeyFile { .. }));
    for length in [0, 5, 80, last] {
        let error = damaged(&|bytes| bytes.truncate(length));
        assert!(matches!(error, ProofError::KeyFile { .. }));
    }
    let error = damaged(&|bytes| bytes.push(0));
    assert!(matches!(error, ProofError::KeyFile { .. }));
}

#[test]
fn keys_are_made_once_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("keys");
    assert_eq!(list(&folder).unwrap(), []);
    let stages = Mutex::new(Vec::new());
    let follow = |stage: Stage, fraction: f64| {
        assert!((0.0..=1.0).contains(&fraction));
        stages.lock().unwrap().push(stage);
    };
    // All at once, as processes would: each opens the lock file for itself.
    let words = std::thread::scope(|scope| {
        let open = || {
            let keys = Keys::open_or_make(&folder, Size::N16, &follow).unwrap();
            keys.verifying().words()
        };
        let threads = [0; 3].map(|_| scope.spawn(open));
        threads.map(|thread| thread.join().unwrap())
    });
    assert!(words.iter().all(|other| *other == words[0]));
    let stages = stages.into_inner().unwrap();
    let count = |stage| stages.iter().filter(|s| **s == stage).count();
    assert_eq!(count(Stage::Saving), 2);
    assert!(count(Stage::Setup) > 5);

    let circuit = Circuit::of(Size::N16).unwrap();
    std::fs::write(folder.join("short.key"), b"convoke").unwrap();
    std::fs::write(folder.join("other.key"), [7; 500]).unwrap();
    let files = list(&folder).unwrap();
    let [file] = &files[..] else {
        panic!("{files:?}");
    };
    let path = Keys::file(&folder, &circuit, Origin::Development);
    assert_eq!(file.path, path);
    assert_eq!(file.circuit, *circuit.hash());
    assert_eq!((file.size, file.origin), (Size::N16, Origin::Development));
    assert_eq!(file.bytes, std::fs::metadata(path).unwrap().len());
    // No half-written file is left over.
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 4);
}
