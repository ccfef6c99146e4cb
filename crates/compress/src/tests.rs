//! What holds of every codec.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use convoke_protocol::task::CodecKind;
use convoke_sketch::tensor_file::PART_VALUES;
use convoke_sketch::{ChunkBuffer, SketchError, Source, TensorFile, measure};
use proptest::prelude::*;

use crate::testing::normal;
use crate::{Codec, CompressError, Delta, EncodedFile, EncodingError, header, wrap};

/// Two parts and a short last block.
const LONG: usize = 2 * PART_VALUES + 8_321;

fn codecs(keep_ppm: u32) -> [Codec; 4] {
    [
        CodecKind::Bf16,
        CodecKind::Int8,
        CodecKind::TopK,
        CodecKind::DctSign,
    ]
    .map(|kind| Codec::new(kind, keep_ppm).unwrap())
}

fn decoded(codec: Codec, bytes: &[u8], count: usize) -> Result<Vec<f32>, EncodingError> {
    let mut values = vec![f32::NAN; count];
    codec.decode(bytes, &mut values).map(|()| values)
}

fn norm(values: &[f32]) -> f64 {
    let squares = values.iter().map(|v| f64::from(*v).powi(2));
    squares.sum::<f64>().sqrt()
}

fn safetensors(values: &[f32]) -> Vec<u8> {
    let length = 4 * values.len();
    let json = format!(
        r#"{{"w":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{length}]}}}}"#,
        values.len()
    );
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn all(source: &impl Source) -> Result<Vec<f32>, SketchError> {
    let mut buffer = ChunkBuffer::default();
    source
        .get(0..source.count(), &mut buffer)
        .map(<[f32]>::to_vec)
}

#[test]
fn lengths_are_those_of_the_manual() {
    let of = |values| codecs(10_000).map(|codec| codec.encoded_bytes(values) - 24);
    assert_eq!(of(0), [0; 4]);
    assert_eq!(of(1), [2, 5, 4, 6]);
    assert_eq!(of(4_096), [8_192, 16 * 260, 4 * 41, 4 + 2 * 41]);
    assert_eq!(of(4_196), [8_392, 16 * 260 + 104, 4 * 42, 8 + 2 * 42]);
    assert_eq!(Codec::new(CodecKind::None, 10_000), None);
}

#[test]
fn less_is_lost_than_was_there() {
    let values = normal(1, LONG);
    // What is lost of normal values, of their norm.
    let bounds = [0.002, 0.01, 0.77, 0.80];
    for (codec, bound) in codecs(100_000).into_iter().zip(bounds) {
        let bytes = codec.encode(&values);
        assert_eq!(bytes.len() as u64, codec.encoded_bytes(LONG as u64));
        let decoded = decoded(codec, &bytes, LONG).unwrap();
        let lost: Vec<f32> = values.iter().zip(decoded).map(|(v, d)| v - d).collect();
        let share = norm(&lost) / norm(&values);
        assert!(share < bound, "{codec:?}: {share}");
    }
}

#[test]
fn what_error_feedback_carries_on_arrives_in_the_end() {
    let values = normal(2, 5_000);
    for codec in codecs(50_000) {
        let (mut residual, mut arrived) = (vec![0f32; 5_000], vec![0f64; 5_000]);
        for _ in 0..100 {
            let target: Vec<f32> = values.iter().zip(&residual).map(|(v, r)| v + r).collect();
            let sent = decoded(codec, &codec.encode(&target), 5_000).unwrap();
            for (((sum, rest), sent), target) in
                arrived.iter_mut().zip(&mut residual).zip(sent).zip(target)
            {
                *sum += f64::from(sent);
                *rest = target - sent;
            }
        }
        let missing: Vec<f32> = arrived
            .iter()
            .zip(&values)
            .map(|(sum, v)| (sum / 100.0 - f64::from(*v)) as f32)
            .collect();
        let share = norm(&missing) / norm(&values);
        assert!(share < 0.25, "{codec:?}: {share}");
    }
}

/// Bytes that a release has sent must mean the same in the next.
#[test]
fn the_bytes_are_those_of_version_1() {
    let values: Vec<f32> = (0..9_000u32)
        .map(|i| i.wrapping_mul(0x9e37_79b9) as i32 as f32 / 2f32.powi(31))
        .collect();
    let hash = |codec: Codec| {
        let bytes = codec.encode(&values);
        let back = decoded(codec, &bytes, values.len()).unwrap();
        let back: Vec<u8> = back.iter().flat_map(|v| v.to_le_bytes()).collect();
        [bytes, back]
            .map(|bytes| convoke_protocol::ids::BlobHash::of(&bytes).to_string()[..10].to_owned())
    };
    assert_eq!(codecs(20_000).map(hash), FROZEN);
}

const FROZEN: [[&str; 2]; 4] = [
    ["0x0d9ed682", "0x865fc871"],
    ["0x1b11c1dd", "0xeac62094"],
    ["0xaf32e127", "0xd77b1ba5"],
    ["0xff7bf4dd", "0xcd07c451"],
];

#[test]
fn files_streams_and_memory_agree_whatever_the_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let values = normal(3, LONG);
    for codec in codecs(30_000) {
        let bytes = codec.encode(&values);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let streamed = pool.unwrap().install(|| {
                let mut out = Vec::new();
                codec.encode_to(&values[..], &mut out).unwrap();
                out
            });
            assert!(streamed == bytes, "{codec:?}");
        }
        let expected = decoded(codec, &bytes, LONG).unwrap();
        let path = dir.path().join("encoded");
        std::fs::write(&path, &bytes).unwrap();
        let file = EncodedFile::open_like(&path, codec, LONG as u64).unwrap();
        assert!(all(&file).unwrap() == expected);
        let mut buffer = ChunkBuffer::default();
        for range in [0..0, 5..6, 4_000..4_200, 255..70_001, LONG - 3..LONG] {
            let part = file
                .get(range.start as u64..range.end as u64, &mut buffer)
                .unwrap();
            assert!(part == &expected[range]);
        }
        let delta = Delta::open(&path, Some(codec)).unwrap();
        assert_eq!(
            measure(&delta).unwrap().unwrap(),
            measure(&expected[..]).unwrap().unwrap()
        );
    }
}

#[test]
fn an_unpacked_file_has_the_header_and_the_decoded_values() {
    let dir = tempfile::tempdir().unwrap();
    let values = normal(4, LONG);
    let like = safetensors(&vec![0.0; LONG]);
    let header = &like[..like.len() - 4 * LONG];
    for codec in codecs(30_000) {
        let bytes = codec.encode(&values);
        let expected = decoded(codec, &bytes, LONG).unwrap();
        let (path, out) = (dir.path().join("encoded"), dir.path().join("dense"));
        std::fs::write(&path, &bytes).unwrap();
        let file = EncodedFile::open_like(&path, codec, LONG as u64).unwrap();
        file.unpack(header, &out).unwrap();
        assert!(all(&TensorFile::open(&out).unwrap()).unwrap() == expected);
        assert!(wrap(codec, &bytes, &like).unwrap() == std::fs::read(&out).unwrap());
        // A flaw in the last block: no file, and nothing half-written.
        std::fs::remove_file(&out).unwrap();
        let mut flawed = bytes;
        let end = flawed.len();
        flawed[end - 2..].copy_from_slice(&[0x80, 0x7f]);
        if let Codec::Int8(_) = codec {
            flawed[end - 1] = 0x80;
        }
        std::fs::write(&path, &flawed).unwrap();
        let file = EncodedFile::open_like(&path, codec, LONG as u64).unwrap();
        let error = file.unpack(header, &out).unwrap_err();
        let block = (LONG as u64 - 1) / codec.run().block() as u64;
        assert!(
            matches!(error, CompressError::Encoding(EncodingError::Block { block: at, .. }) if at == block),
            "{error}"
        );
        assert_eq!(names(dir.path()), ["encoded"]);
        assert!(matches!(all(&file), Err(SketchError::Malformed { .. })));
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap()
    };
    entries.map(name).collect()
}

#[test]
fn what_is_not_finite_does_not_come_through() {
    for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for codec in codecs(10_000) {
            let mut values = normal(5, 10_000);
            values[8_195] = value;
            let outcome = decoded(codec, &codec.encode(&values), 10_000);
            let block = 8_195 / codec.run().block() as u64;
            assert!(
                matches!(outcome, Err(EncodingError::Block { block: at, .. }) if at == block),
                "{codec:?}: {outcome:?}"
            );
        }
    }
}

#[test]
fn a_file_of_another_length_or_number_of_values_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encoded");
    let open = |bytes: &[u8], codec, values| {
        std::fs::write(&path, bytes).unwrap();
        match EncodedFile::open_like(&path, codec, values) {
            Err(CompressError::Encoding(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    for codec in codecs(10_000) {
        let bytes = codec.encode(&normal(8, 50));
        let short = open(&bytes[..20], codec, 50);
        assert!(matches!(short, EncodingError::Length { .. }), "{short}");
        let long = open(&[&bytes[..], &[0]].concat(), codec, 50);
        assert!(matches!(long, EncodingError::Length { .. }), "{long}");
        assert_eq!(open(&bytes, codec, 51), EncodingError::Header);
        let mut endless = bytes.clone();
        endless[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        let endless = open(&endless, codec, u64::MAX);
        assert!(matches!(endless, EncodingError::Length { .. }), "{endless}");
    }
    let bytes = codecs(10_000)[2].encode(&normal(9, 50));
    assert_eq!(open(&bytes, codecs(10_000)[3], 50), EncodingError::Header);
}

#[test]
fn another_length_or_header_is_refused() {
    for codec in codecs(10_000) {
        let bytes = codec.encode(&normal(6, 5_000));
        for cut in [0, 1, header::HEADER_BYTES, bytes.len() - 1] {
            let error = decoded(codec, &bytes[..cut], 5_000).unwrap_err();
            assert!(matches!(error, EncodingError::Length { .. }), "{error}");
        }
        let longer = [&bytes[..], &[0]].concat();
        let error = decoded(codec, &longer, 5_000).unwrap_err();
        assert!(matches!(error, EncodingError::Length { .. }), "{error}");
        for index in 0..header::HEADER_BYTES {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let error = decoded(codec, &changed, 5_000).unwrap_err();
            assert_eq!(error, EncodingError::Header, "{index}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever a peer sends, the answer is values, all of them finite, or an error.
    #[test]
    fn arbitrary_bytes_give_finite_values_or_an_error(
        count in 1usize..9_000,
        keep_ppm in 100u32..500_000,
        seed in any::<u64>(),
        is_loud in any::<bool>(),
    ) {
        use rand_chacha::rand_core::{RngCore, SeedableRng};
        for codec in codecs(keep_ppm) {
            let mut bytes = codec.encode(&vec![0.0; count]);
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let from = if is_loud { 0 } else { header::HEADER_BYTES };
            rng.fill_bytes(&mut bytes[from..]);
            match decoded(codec, &bytes, count) {
                Ok(values) => prop_assert!(values.iter().all(|v| v.is_finite())),
                Err(EncodingError::Length { .. }) => prop_assert!(false, "of the right length"),
                Err(_) => {}
            }
        }
    }

    /// A few changed bytes of a sound encoding get deeper than noise does.
    #[test]
    fn changed_bytes_give_finite_values_or_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        count in 1usize..9_000,
    ) {
        for codec in codecs(100_000) {
            let mut bytes = codec.encode(&normal(7, count));
            for (index, byte) in &changes {
                let index = index.index(bytes.len());
                bytes[index] = *byte;
            }
            if let Ok(values) = decoded(codec, &bytes, count) {
                prop_assert!(values.iter().all(|v| v.is_finite()));
            }
        }
    }

    /// Decoding and encoding again changes nothing that is kept.
    #[test]
    fn any_finite_values_come_back(
        values in prop::collection::vec(
            prop_oneof![-1e6f32..1e6, any::<f32>().prop_map(|v| if v.is_finite() { v } else { 0.0 })],
            1..600,
        ),
    ) {
        for codec in codecs(200_000) {
            match decoded(codec, &codec.encode(&values), values.len()) {
                Ok(back) => prop_assert!(back.iter().all(|v| v.is_finite())),
                // A transform of values near the largest there are overflows.
                Err(_) => prop_assert!(matches!(codec, Codec::DctSign(_))),
            }
        }
    }
}
