//! What is said of a delta when it is signed, and looked at when it arrives.

use std::path::Path;

use convoke_protocol::ids::Digest;
use convoke_protocol::refusal::Refusal;
use convoke_protocol::sketch::{CHUNK_VALUES, Norm};
use rayon::prelude::*;

use crate::error::SketchError;
use crate::projection::chunk_count;
use crate::source::Source;
use crate::tensor_file::{ChunkBuffer, Layout, PART_VALUES, TensorFile, chunk_range, file_bytes};
use crate::tree::{CHUNK_TAG, RootStream, leaves, root};

/// What [`inspect`] finds in a sound delta: two fields of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaStats {
    /// Its Euclidean norm.
    pub norm: Norm,
    /// Root of the tree over its chunks; all zeros if it has none.
    pub root: Digest,
}

/// Checks that the file at `path` is a delta of a model of this layout, and measures it, in one
/// pass over the file. The outer error is ours, the inner one the trainer's.
///
/// # Errors
/// If the file cannot be read.
pub fn inspect(path: &Path, layout: &Layout) -> Result<Result<DeltaStats, Refusal>, SketchError> {
    let got = std::fs::metadata(path)
        .map_err(SketchError::file(path))?
        .len();
    if got != layout.file_bytes() {
        let expected = layout.file_bytes();
        return Ok(Err(Refusal::DeltaLength { got, expected }));
    }
    let file = match TensorFile::open(path) {
        Ok(file) => file,
        Err(SketchError::Malformed { reason, .. }) => return Ok(Err(Refusal::Layout(reason))),
        Err(error) => return Err(error),
    };
    if let Some(difference) = layout.difference(file.layout()) {
        return Ok(Err(Refusal::Layout(difference)));
    }
    measure(&file)
}

/// Measures a delta in a file or in memory, in one pass and in parallel, in memory that does not
/// grow with it. The same values give the same on every machine. The outer error is ours, the
/// inner one the delta's: [`Refusal::NotFinite`].
///
/// # Errors
/// If it cannot be read.
pub fn measure(
    source: &(impl Source + ?Sized),
) -> Result<Result<DeltaStats, Refusal>, SketchError> {
    let values = source.count();
    let chunks = chunk_count(values);
    let parts: Vec<_> = (0..values.div_ceil(PART_VALUES as u64))
        .into_par_iter()
        .map_init(ChunkBuffer::default, |buffer, part| {
            let range = chunk_range(part, PART_VALUES, values);
            let first = range.start;
            let values = source.get(range, buffer)?;
            Ok(measure_part(first, values, chunks))
        })
        .collect::<Result<_, SketchError>>()?;
    let (mut squares, mut tree) = (0.0, RootStream::default());
    for part in parts {
        match part {
            Ok((sum, root)) => {
                squares += sum;
                tree.push(root);
            }
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    let norm = declared(squares.sqrt());
    let root = tree.root();
    Ok(Ok(DeltaStats { norm, root }))
}

/// A norm that is not zero stays so: the smallest that can be said is no lie of a smaller one.
fn declared(norm: f64) -> Norm {
    match Norm::of(norm) {
        Norm::ZERO if norm > 0.0 => Norm::of(f64::from(f32::MIN_POSITIVE)),
        rounded => rounded,
    }
}

fn measure_part(first: u64, values: &[f32], chunks: u64) -> Result<(f64, Digest), Refusal> {
    let sum = sum_of_squares(values);
    if !sum.is_finite() {
        return Err(not_finite(first, values));
    }
    let index = first / CHUNK_VALUES as u64;
    let contents: Vec<_> = values.chunks(CHUNK_VALUES).map(file_bytes).collect();
    Ok((sum, root(leaves(CHUNK_TAG, index, chunks, &contents))))
}

/// In f64, where the square of no finite f32 overflows; not finite if a value is not.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (blocks, rest) = values.as_chunks::<8>();
    for block in blocks.iter().map(|b| &b[..]).chain([rest]) {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    lanes.iter().sum()
}

fn not_finite(first: u64, values: &[f32]) -> Refusal {
    let found = values.iter().zip(first..).find(|(v, _)| !v.is_finite());
    let (value, index) = found.map_or((f32::NAN, first), |(v, i)| (*v, i));
    Refusal::NotFinite {
        index,
        value: value.to_string(),
    }
}

/// Parts are subtrees.
const _: () = assert!(PART_VALUES.is_multiple_of(CHUNK_VALUES));
const _: () = assert!((PART_VALUES / CHUNK_VALUES).is_power_of_two());

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::payout::MerkleTree;
    use convoke_protocol::sketch::chunk_leaf;
    use proptest::prelude::*;
    use safetensors::tensor::Dtype;

    use super::*;
    use crate::tensor_file::HEADER_BYTES_MAX;
    use crate::testing::{model, normal, put, tensors, to_bytes};

    const LONG: usize = 2 * PART_VALUES + 37;
    /// Of 2,048 values each, in [`LONG`].
    const CHUNKS: u64 = 65;

    fn inspected(base: &[u8], delta: &[u8]) -> Result<DeltaStats, Refusal> {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::of(&put(dir.path(), base).1).unwrap();
        inspect(&put(dir.path(), delta).1, &layout).unwrap()
    }

    #[test]
    fn a_sound_delta_is_measured() {
        let values = normal(1, LONG);
        let stats = inspected(&model(&normal(2, LONG)), &model(&values)).unwrap();
        let squares = values.iter().map(|v| f64::from(*v).powi(2));
        let expected = squares.sum::<f64>().sqrt();
        assert!((stats.norm.value() / expected - 1.0).abs() < 1e-7);
        let chunks = (0..).zip(values.chunks(CHUNK_VALUES));
        let leaves = chunks.map(|(i, chunk)| chunk_leaf(i, CHUNKS, &to_bytes(chunk)));
        assert_eq!(stats.root, MerkleTree::new(leaves.collect()).root());
        assert_eq!(measure(&values[..]).unwrap().unwrap(), stats);
    }

    #[test]
    fn the_largest_finite_values_have_a_norm() {
        let stats = inspected(&model(&[0.0; 5]), &model(&[f32::MAX; 5])).unwrap();
        assert_eq!(stats.norm.value(), f64::from(f32::MAX));
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named() {
        for (value, text) in [
            (f32::NAN, "NaN"),
            (f32::INFINITY, "inf"),
            (f32::NEG_INFINITY, "-inf"),
        ] {
            let mut values = normal(4, LONG);
            values[PART_VALUES + 5] = value;
            values[LONG - 1] = f32::NAN;
            let refusal = inspected(&model(&normal(5, LONG)), &model(&values)).unwrap_err();
            let index = PART_VALUES as u64 + 5;
            let value = text.to_owned();
            assert_eq!(refusal, Refusal::NotFinite { index, value });
        }
    }

    #[test]
    fn another_length_is_refused() {
        let (base, delta) = (model(&[0.0; 9]), model(&[0.0; 8]));
        let refusal = inspected(&base, &delta).unwrap_err();
        assert_eq!(
            refusal,
            Refusal::DeltaLength {
                got: delta.len() as u64,
                expected: base.len() as u64
            }
        );
    }

    #[test]
    fn other_names_types_shapes_and_orders_are_refused() {
        let bytes = to_bytes(&[1.0; 4]);
        let pair = |names: [&str; 2], shapes: [Vec<usize>; 2], dtype| {
            let of = |i: usize| (names[i], dtype, shapes[i].clone(), bytes.clone());
            tensors(&[of(0), of(1)])
        };
        let base = pair(["a", "b"], [vec![4], vec![2, 2]], Dtype::F32);
        inspected(&base, &base).unwrap();
        for (delta, word) in [
            (pair(["a", "c"], [vec![4], vec![2, 2]], Dtype::F32), "\"c\""),
            (
                pair(["a", "b"], [vec![4], vec![4, 1]], Dtype::F32),
                "[4, 1]",
            ),
            (
                pair(["b", "a"], [vec![4], vec![2, 2]], Dtype::F32),
                "[2, 2]",
            ),
            (pair(["a", "b"], [vec![4], vec![2, 2]], Dtype::I32), "I32"),
        ] {
            match inspected(&base, &delta).unwrap_err() {
                Refusal::Layout(text) => assert!(text.contains(word), "{text}"),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_norm_is_zero_of_zeros_only() {
        let of = |values: &[f32]| measure(values).unwrap().unwrap().norm;
        assert_eq!(of(&[]), Norm::ZERO);
        assert_eq!(of(&[0.0, -0.0]), Norm::ZERO);
        assert_eq!(
            of(&[f32::from_bits(1)]).value(),
            f64::from(f32::MIN_POSITIVE)
        );
    }

    #[test]
    fn hostile_headers_are_refused() {
        let sound = model(&[0.0; 6]);
        let json_end = 8 + usize::from(sound[0]);
        let with_length = |length: u64| [&length.to_le_bytes(), &sound[8..]].concat();
        let mut not_json = sound.clone();
        not_json[8] = b'[';
        let mut shifted = sound.clone();
        let offset = sound.windows(6).position(|w| w == b"[0,12]").unwrap();
        shifted[offset..offset + 6].copy_from_slice(b"[4,16]");
        let odd_type = sound.windows(3).position(|w| w == b"F32").unwrap();
        let mut unknown_type = sound.clone();
        unknown_type[odd_type..odd_type + 3].copy_from_slice(b"\\u{");
        for delta in [
            unknown_type,
            with_length(u64::MAX),
            with_length(HEADER_BYTES_MAX),
            with_length(0),
            with_length(json_end as u64 + 8),
            not_json,
            shifted,
        ] {
            let refusal = inspected(&sound, &delta).unwrap_err();
            assert!(matches!(refusal, Refusal::Layout(_)), "{refusal}");
        }
    }

    #[test]
    fn a_hostile_name_is_cut_in_the_refusal() {
        let base = tensors(&[("a", Dtype::F32, vec![1000], to_bytes(&[0.0; 1000]))]);
        let name = "x\u{1b}[31m".repeat(200);
        let values = to_bytes(&vec![0.0; 1000]);
        let long = tensors(&[(name.as_str(), Dtype::F32, vec![1000], values)]);
        let values = 1000 - (long.len() - base.len()) / 4;
        let mut delta = tensors(&[(
            name.as_str(),
            Dtype::F32,
            vec![values],
            to_bytes(&vec![0.0; values]),
        )]);
        // The shape is a digit shorter now: blanks in the header make up for it.
        let length = u64::from_le_bytes(delta[..8].try_into().unwrap());
        let missing = base.len() - delta.len();
        delta.splice(
            8 + length as usize..8 + length as usize,
            vec![b' '; missing],
        );
        delta[..8].copy_from_slice(&(length + missing as u64).to_le_bytes());
        let refusal = inspected(&base, &delta).unwrap_err().to_string();
        assert!(
            refusal.len() < 600 && !refusal.contains('\u{1b}'),
            "{refusal}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever bytes a peer sends, the answer is a verdict.
        #[test]
        fn changed_bytes_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let base = model(&normal(6, 40));
            let mut delta = base.clone();
            for (index, byte) in changes {
                let index = index.index(delta.len());
                delta[index] = byte;
            }
            let _ = inspected(&base, &delta);
        }
    }
}
