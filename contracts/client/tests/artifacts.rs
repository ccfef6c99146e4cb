//! The committed artifacts are what the committed sources compile to.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn artifacts_are_those_of_the_sources() {
    let contracts = contracts_dir();
    let out = tempfile::tempdir().unwrap();
    let build = Command::new("node")
        .arg("tools/build.js")
        .arg(out.path())
        .current_dir(&contracts)
        .output()
        .expect("node runs; `cargo xtask test` checks that it is installed");
    assert!(
        build.status.success(),
        "{}",
        String::from_utf8_lossy(&build.stderr)
    );

    let committed = file_names(&contracts.join("artifacts"));
    assert_eq!(
        committed,
        file_names(out.path()),
        "one artifact for each contract"
    );
    for name in committed {
        let old = std::fs::read(contracts.join("artifacts").join(&name)).unwrap();
        let new = std::fs::read(out.path().join(&name)).unwrap();
        assert!(
            old == new,
            "artifacts/{name} is stale: run `npm run build` in contracts/"
        );
    }
}

fn contracts_dir() -> PathBuf {
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned();
    assert!(
        contracts.join("node_modules/solc").is_dir(),
        "the compiler is not installed: run `cargo xtask test`, or `npm ci` in contracts/"
    );
    contracts
}

fn file_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
