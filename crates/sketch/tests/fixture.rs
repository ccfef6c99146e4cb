//! The fixture that the contracts' tests read: both sides get the same from the same delta.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use convoke_protocol::identity::keccak;
use convoke_protocol::ids::Digest;
use convoke_protocol::sketch::{CHUNK_VALUES, Norm, chunk_leaf, sums_leaf};
use convoke_sketch::inspect::measure;
use convoke_sketch::opening::{Claimed, Opener, Opening, Verdict, check};
use convoke_sketch::{Sums, is_under_declared, quantize, sketch};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use serde_json::{Value, json};

const VALUES: usize = CHUNK_VALUES + 301;

/// Normal ones, with everything that is special at the start of both chunks. The first ones are
/// multiples of the clipping norm.
fn delta(clip: f32) -> Vec<f32> {
    let rng = ChaCha8Rng::seed_from_u64(1);
    let normal: Vec<f32> = StandardNormal.sample_iter(rng).take(VALUES).collect();
    let mut values: Vec<f32> = normal.iter().map(|v| v * clip * 0.02).collect();
    let unit = 2f32.powi(clip.log2().floor() as i32);
    // q = 2²¹ · value / unit.
    let around = [
        unit,
        unit * 7.999_999_5,
        unit * 8.0,
        unit * 9.0,
        unit / 2f32.powi(21),
        unit / 2f32.powi(21) * 1.999_999_9,
        unit / 2f32.powi(21) * 0.999_999_94,
    ];
    let extremes = [
        0.0,
        -0.0,
        f32::from_bits(1),
        -f32::from_bits(0x7f_ffff),
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE,
    ];
    for start in [0, CHUNK_VALUES] {
        for (i, value) in around.iter().chain(&extremes).enumerate() {
            values[start + 2 * i] = *value;
            values[start + 2 * i + 1] = -value;
        }
    }
    values
}

/// A delta of one chunk of any bits there are, extremes and not-a-number among them, under clipping
/// norms from the smallest to the largest.
fn any_bits(seed: &Digest) -> Value {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut values = vec![
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    values.extend((values.len()..900).map(|_| f32::from_bits(rng.next_u32())));
    let largest = Norm::of(f64::from(f32::MAX));
    let smallest = Norm::of(f64::from(f32::MIN_POSITIVE));
    let clips = [smallest, Norm::of(1e-6), Norm::of(1.0), largest];
    let chunk: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let of = |clip: &Norm| {
        let sums = sketch(&values[..], seed, *clip).unwrap().sums;
        json!({"clipNorm": clip.bits(), "chunk": hex(&chunk), "sums": hex(sums.to_bytes())})
    };
    clips.iter().map(of).collect()
}

fn hex(bytes: impl AsRef<[u8]>) -> Value {
    Value::from(format!("0x{}", hex::encode(bytes)))
}

fn hashes(of: &[Digest]) -> Value {
    of.iter().map(|digest| hex(digest.0)).collect()
}

#[test]
fn contracts_read_what_is_computed_here() {
    let (clip, seed) = (Norm::of(0.75), keccak(&[b"convoke sketch fixture"]));
    let values = delta(clip.value() as f32);
    let norm = measure(&values[..]).unwrap().unwrap().norm;
    let opener = Opener::new(&values[..], &seed, clip).unwrap();
    let openings: Vec<Opening> = (0..2).map(|i| opener.open(i).unwrap()).collect();
    let sketched = quantize(opener.total(), norm, clip);
    let claimed = Claimed {
        delta_root: opener.delta_root(),
        norm,
        seed,
        clip,
        sums_root: opener.sums_root(),
        commitment: keccak(&[&sketched.to_bytes()]),
    };
    for opening in &openings {
        let verdict = check(opening, &claimed, |s| keccak(&[&s.to_bytes()]));
        assert_eq!(verdict, Ok(Verdict::Honest));
    }
    let quantized: Vec<Value> = norms(norm, clip)
        .iter()
        .map(|(norm, clip)| {
            let total = opener.total();
            json!({
                "norm": norm.bits(),
                "clipNorm": clip.bits(),
                "sketch": hex(quantize(total, *norm, *clip).to_bytes()),
                "underDeclared": is_under_declared(total.energy, *norm, *clip),
            })
        })
        .collect();
    let of = |f: &dyn Fn(&Opening) -> Value| openings.iter().map(f).collect::<Value>();
    let leaf = |i: &Opening| hex(chunk_leaf(i.index, 2, &i.chunk.bytes).0);
    let sums_leaf = |i: &Opening| hex(sums_leaf(i.index, 2, &*i.after.bytes).0);
    let fixture = json!({
        "seed": hex(seed.0),
        "clipNorm": clip.bits(),
        "norm": norm.bits(),
        "count": 2,
        "chunks": of(&|o| hex(&o.chunk.bytes)),
        "chunkLeaves": of(&leaf),
        "chunkProofs": of(&|o| hashes(&o.chunk.proof)),
        "deltaRoot": hex(opener.delta_root().0),
        "sums": of(&|o| hex(*o.after.bytes)),
        "energies": of(&|o| {
            Value::from(Sums::from_bytes(&o.after.bytes).unwrap().energy.to_string())
        }),
        "sumsLeaves": of(&sums_leaf),
        "sumsProofs": of(&|o| hashes(&o.after.proof)),
        "sumsRoot": hex(opener.sums_root().0),
        "sketch": hex(sketched.to_bytes()),
        "quantized": quantized,
        "anyBits": any_bits(&seed),
    });
    compare("sketch.json", &fixture);
}

/// Pairs of norms around the one that the energy allows, and far from it.
fn norms(norm: Norm, clip: Norm) -> Vec<(Norm, Norm)> {
    let bits = |bits: i64| Norm::from_bits(u32::try_from(bits).unwrap()).unwrap();
    let (n, t) = (i64::from(norm.bits()), i64::from(clip.bits()));
    let mut pairs = vec![
        (norm, clip),
        (Norm::ZERO, clip),
        (Norm::ZERO, Norm::ZERO),
        (clip, Norm::ZERO),
        (clip, clip),
        (Norm::of(2e-38), clip),
        (Norm::of(f64::from(f32::MAX)), clip),
        (norm, Norm::of(f64::from(f32::MAX))),
        (norm, Norm::of(2e-38)),
    ];
    // A norm of 2³ clips: there the sketch changes slowly and the claim turns false somewhere.
    let step = 1 << 23;
    pairs.extend((0..7).map(|i| (bits(t + i * step + 12_345), clip)));
    pairs.extend((-5..=5).map(|i| (clip, bits(t + i * step / 2))));
    pairs.extend([-1, 1].map(|i| (bits(n + i), clip)));
    pairs
}

/// Compares with the file in the contracts' tests, or writes it if `CONVOKE_BLESS` is set.
fn compare(name: &str, fixture: &Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contracts/test/fixtures");
    let path = folder.join(name);
    let text = serde_json::to_string_pretty(fixture).unwrap() + "\n";
    if std::env::var_os("CONVOKE_BLESS").is_some() {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        text, expected,
        "set CONVOKE_BLESS=1 if the change is wanted"
    );
}
