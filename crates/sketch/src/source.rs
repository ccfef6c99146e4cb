//! Where the values to be sketched come from: a file, memory, or a formula.

use std::ops::Range;

use crate::error::SketchError;
use crate::tensor_file::{ChunkBuffer, TensorFile};

/// A long vector of f32 that is read by ranges, by several threads at once.
pub trait Source: Sync {
    /// Number of values.
    fn count(&self) -> u64;

    /// The values of `range`, which lies within `0..count()`; `buffer` may be used for them.
    ///
    /// # Errors
    /// If they cannot be read.
    fn get<'a>(
        &'a self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a [f32], SketchError> {
        self.copy(range, buffer).map(|values| &*values)
    }

    /// The same values in `buffer`, where they may be changed.
    ///
    /// # Errors
    /// If they cannot be read.
    fn copy<'a>(
        &self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a mut [f32], SketchError>;
}

impl Source for TensorFile {
    fn count(&self) -> u64 {
        self.layout().values()
    }

    fn copy<'a>(
        &self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a mut [f32], SketchError> {
        self.read(range, buffer)
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn count(&self) -> u64 {
        (**self).count()
    }

    fn get<'a>(
        &'a self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a [f32], SketchError> {
        (**self).get(range, buffer)
    }

    fn copy<'a>(
        &self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a mut [f32], SketchError> {
        (**self).copy(range, buffer)
    }
}

impl Source for [f32] {
    fn count(&self) -> u64 {
        self.len() as u64
    }

    fn get<'a>(
        &'a self,
        range: Range<u64>,
        _: &'a mut ChunkBuffer,
    ) -> Result<&'a [f32], SketchError> {
        // Within a slice, whose length is a usize.
        Ok(&self[range.start as usize..range.end as usize])
    }

    fn copy<'a>(
        &self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a mut [f32], SketchError> {
        let values = buffer.cleared();
        values.extend_from_slice(&self[range.start as usize..range.end as usize]);
        Ok(values)
    }
}

/// Values made on demand, such as the difference or a multiple of other values.
#[derive(Debug, Clone, Copy)]
pub struct Computed<F> {
    count: u64,
    fill: F,
}

impl<F> Computed<F>
where
    F: Fn(Range<u64>, &mut Vec<f32>) -> Result<(), SketchError> + Sync,
{
    /// A vector of `count` values. `fill` is given a range and an empty vector, and must push
    /// exactly the values of that range; what it leaves out is zero, what it adds is cut off. It
    /// may be asked for any range, in any order and more than once.
    pub const fn new(count: u64, fill: F) -> Self {
        Self { count, fill }
    }
}

impl<F> Source for Computed<F>
where
    F: Fn(Range<u64>, &mut Vec<f32>) -> Result<(), SketchError> + Sync,
{
    fn count(&self) -> u64 {
        self.count
    }

    fn copy<'a>(
        &self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a mut [f32], SketchError> {
        let length = (range.end - range.start) as usize;
        let values = buffer.cleared();
        (self.fill)(range, values)?;
        values.resize(length, 0.0);
        Ok(values)
    }
}

/// `new` − `base`, value by value, rounded to f32: the step from one checkpoint to the next.
///
/// # Errors
/// [`SketchError::Malformed`] if names or shapes of `new` are not those of `base`.
pub fn difference<'a>(
    new: &'a TensorFile,
    base: &'a TensorFile,
) -> Result<impl Source + 'a, SketchError> {
    new.expect_layout(base.layout())?;
    let fill = |range: Range<u64>, values: &mut Vec<f32>| {
        let (mut left, mut right) = (ChunkBuffer::default(), ChunkBuffer::default());
        let left = new.read(range.clone(), &mut left)?;
        let right = base.read(range, &mut right)?;
        values.extend(left.iter().zip(&*right).map(|(new, base)| new - base));
        Ok(())
    };
    Ok(Computed::new(new.layout().values(), fill))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{model, normal, put};

    const LONG: usize = 5_000;

    fn all(source: &(impl Source + ?Sized)) -> Vec<f32> {
        let (mut buffer, mut other) = (ChunkBuffer::default(), ChunkBuffer::default());
        let values = source.get(0..source.count(), &mut buffer).unwrap();
        assert_eq!(source.copy(0..source.count(), &mut other).unwrap(), values);
        values.to_vec()
    }

    #[test]
    fn a_step_is_the_difference_of_two_checkpoints() {
        let dir = tempfile::tempdir().unwrap();
        let (base, new) = (normal(1, LONG), normal(2, LONG));
        let open = |values: &[f32]| TensorFile::open(&put(dir.path(), &model(values)).1).unwrap();
        let (base_file, new_file) = (open(&base), open(&new));
        assert_eq!(all(&new_file), all(&new[..]));
        let step = difference(&new_file, &base_file).unwrap();
        let expected: Vec<f32> = new
            .iter()
            .zip(&base)
            .map(|(new, base)| new - base)
            .collect();
        assert_eq!(all(&step), expected);
        let mut buffer = ChunkBuffer::default();
        assert_eq!(step.get(7..9, &mut buffer).unwrap(), &expected[7..9]);
        let error = difference(&open(&base[1..]), &base_file).err().unwrap();
        assert!(error.to_string().contains("weight"), "{error}");
    }

    #[test]
    fn what_a_formula_leaves_out_is_zero_and_what_it_adds_is_cut_off() {
        let of = |length: usize| {
            let fill = move |_, values: &mut Vec<f32>| {
                values.resize(length, 2.0);
                Ok(())
            };
            all(&Computed::new(3, fill))
        };
        assert_eq!(of(2), [2.0, 2.0, 0.0]);
        assert_eq!(of(4), [2.0, 2.0, 2.0]);
    }

    #[test]
    fn nothing_longer_than_its_sums_allow_is_read() {
        let endless = Computed::new(u64::MAX, |_, _: &mut Vec<f32>| Ok(()));
        let seed = convoke_protocol::ids::Digest([1; 32]);
        let clip = convoke_protocol::sketch::Norm::of(1.0);
        let error = crate::sketch(&endless, &seed, clip).unwrap_err();
        assert!(matches!(error, SketchError::TooLong { values: u64::MAX }));
        assert!(crate::project(&endless, &seed, clip).is_err());
    }
}
