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
    ) -> Result<&'a [f32], SketchError>;
}

impl Source for TensorFile {
    fn count(&self) -> u64 {
        self.layout().values()
    }

    fn get<'a>(
        &'a self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a [f32], SketchError> {
        self.read(range, buffer).map(|values| &*values)
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

    fn get<'a>(
        &'a self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a [f32], SketchError> {
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
