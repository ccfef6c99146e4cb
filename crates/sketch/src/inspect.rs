//! What is said of a delta when it is signed, and looked at when it arrives.

use std::path::Path;
use std::sync::Arc;

use convoke_protocol::ids::Digest;
use convoke_protocol::refusal::Refusal;
use convoke_protocol::sketch::{CHUNK_VALUES, Norm};
use rayon::prelude::*;

use crate::error::SketchError;
use crate::projection::chunk_count;
use crate::source::Source;
use crate::tensor_file::{
    ChunkBuffer, HeaderStream, Layout, PART_VALUES, TensorFile, chunk_range, file_bytes,
    from_file_order,
};
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
    let mut total = Total::default();
    for part in parts {
        match part {
            Ok(part) => total.add(part),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    Ok(Ok(total.stats()))
}

/// [`inspect`] of a delta whose bytes come piece by piece, such as from the network: the same
/// verdict to the last bit, in one part's memory (256 KiB) and as much as its header.
#[derive(Debug)]
pub struct Inspector {
    layout: Arc<Layout>,
    file_bytes: u64,
    fed: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Header(HeaderStream),
    Values(Values),
    Refused(Refusal),
}

/// The values so far.
#[derive(Debug, Default)]
struct Values {
    /// Of the part that is not whole yet: `filled` bytes of it.
    part: Vec<f32>,
    filled: usize,
    /// Index of the part's first value.
    first: u64,
    total: Total,
}

impl Inspector {
    /// Will inspect a delta of a model of this layout, of which `file_bytes` bytes are to come.
    #[must_use]
    pub fn new(layout: Arc<Layout>, file_bytes: u64) -> Self {
        let state = if file_bytes == layout.file_bytes() {
            State::Header(HeaderStream::default())
        } else {
            State::Refused(Refusal::DeltaLength {
                got: file_bytes,
                expected: layout.file_bytes(),
            })
        };
        Self {
            layout,
            file_bytes,
            fed: 0,
            state,
        }
    }

    /// Takes the next bytes, of any number. What comes after the announced length is not looked
    /// at. Computes for the time of a pass over them.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        self.fed += bytes.len() as u64;
        if let State::Header(header) = &mut self.state {
            self.state = match header.feed(&mut bytes, self.file_bytes) {
                Ok(None) => return,
                Ok(Some(layout)) => match self.layout.difference(&layout) {
                    None => State::Values(Values::default()),
                    Some(difference) => State::Refused(Refusal::Layout(difference)),
                },
                Err(reason) => State::Refused(Refusal::Layout(reason)),
            };
        }
        if let State::Values(values) = &mut self.state
            && let Err(refusal) = values.feed(bytes, self.layout.values())
        {
            self.state = State::Refused(refusal);
        }
    }

    /// The verdict.
    ///
    /// # Errors
    /// The trainer's fault. [`Refusal::DeltaLength`] if not all bytes have come, or too many.
    pub fn finish(self) -> Result<DeltaStats, Refusal> {
        if self.fed != self.file_bytes {
            return Err(Refusal::DeltaLength {
                got: self.fed,
                expected: self.file_bytes,
            });
        }
        match self.state {
            State::Values(values) => Ok(values.total.stats()),
            State::Refused(refusal) => Err(refusal),
            // Its bytes are all here, and it is no longer than they are.
            State::Header(_) => Err(Refusal::Layout("the header is not whole".into())),
        }
    }
}

impl Values {
    fn feed(&mut self, mut bytes: &[u8], values: u64) -> Result<(), Refusal> {
        while self.first < values {
            // At most a part, whose length is a usize.
            let count = (values - self.first).min(PART_VALUES as u64) as usize;
            self.part.resize(count, 0.0);
            let part: &mut [u8] = bytemuck::cast_slice_mut(&mut self.part);
            let taken = (part.len() - self.filled).min(bytes.len());
            part[self.filled..][..taken].copy_from_slice(&bytes[..taken]);
            (self.filled, bytes) = (self.filled + taken, &bytes[taken..]);
            if self.filled < part.len() {
                break;
            }
            from_file_order(&mut self.part);
            let measured = measure_part(self.first, &self.part, chunk_count(values))?;
            self.total.add(measured);
            (self.filled, self.first) = (0, self.first + count as u64);
        }
        Ok(())
    }
}

/// What the parts add up to, in their order.
#[derive(Debug, Default)]
struct Total {
    squares: f64,
    tree: RootStream,
}

impl Total {
    fn add(&mut self, (squares, root): (f64, Digest)) {
        self.squares += squares;
        self.tree.push(root);
    }

    fn stats(&self) -> DeltaStats {
        DeltaStats {
            norm: declared(self.squares.sqrt()),
            root: self.tree.root(),
        }
    }
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

    /// The verdict on a file, which must be that on its bytes in pieces of several lengths.
    fn inspected(base: &[u8], delta: &[u8]) -> Result<DeltaStats, Refusal> {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::of(&put(dir.path(), base).1).unwrap();
        let verdict = inspect(&put(dir.path(), delta).1, &layout).unwrap();
        let layout = Arc::new(layout);
        for piece in [1_447, 65_507, 4 * PART_VALUES, usize::MAX] {
            let streamed = streamed(&layout, delta.chunks(piece), delta.len());
            assert_eq!(streamed, verdict, "in pieces of {piece} bytes");
        }
        verdict
    }

    fn streamed<'a>(
        layout: &Arc<Layout>,
        pieces: impl Iterator<Item = &'a [u8]>,
        announced: usize,
    ) -> Result<DeltaStats, Refusal> {
        let mut inspector = Inspector::new(layout.clone(), announced as u64);
        pieces.for_each(|piece| inspector.feed(piece));
        inspector.finish()
    }

    #[test]
    fn a_delta_of_which_too_little_or_too_much_comes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let delta = model(&normal(7, 5));
        let layout = Arc::new(Layout::of(&put(dir.path(), &delta).1).unwrap());
        let of = |bytes: &[u8]| streamed(&layout, bytes.chunks(3), delta.len());
        of(&delta).unwrap();
        for end in 0..delta.len() {
            let short = of(&delta[..end]).unwrap_err();
            assert!(matches!(short, Refusal::DeltaLength { .. }), "{short}");
        }
        let long = of(&[&delta[..], &[0]].concat()).unwrap_err();
        assert!(matches!(long, Refusal::DeltaLength { .. }), "{long}");
    }

    #[test]
    fn a_stream_is_judged_as_one_byte_after_another() {
        let dir = tempfile::tempdir().unwrap();
        let delta = model(&normal(8, 3_000));
        let (_, path) = put(dir.path(), &delta);
        let layout = Arc::new(Layout::of(&path).unwrap());
        let whole = inspect(&path, &layout).unwrap();
        assert_eq!(streamed(&layout, delta.chunks(1), delta.len()), whole);
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

        /// However the bytes are cut, the verdict is that on the file.
        #[test]
        fn any_cuts_give_the_same_verdict(
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            spoilt in any::<Option<prop::sample::Index>>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut values = normal(9, PART_VALUES + 100);
            if let Some(index) = spoilt {
                values[index.index(PART_VALUES + 100)] = f32::INFINITY;
            }
            let delta = model(&values);
            let (_, path) = put(dir.path(), &delta);
            let layout = Arc::new(Layout::of(&path).unwrap());
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(delta.len() + 1)).collect();
            ends.extend([0, delta.len()]);
            ends.sort_unstable();
            let pieces = ends.windows(2).map(|w| &delta[w[0]..w[1]]);
            let streamed = streamed(&layout, pieces, delta.len());
            prop_assert_eq!(streamed, inspect(&path, &layout).unwrap());
        }
    }
}
