//! Products of matrices, on all threads of the pool.

use gemm::Parallelism;
use rayon::prelude::*;

/// A matrix that is read: any strides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row after row.
    ///
    /// # Panics
    /// If the number of values is another.
    pub(crate) fn new(values: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "values of a matrix");
        Self {
            values,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// With rows that far apart, of values one after the other.
    ///
    /// # Panics
    /// If there are too few values.
    pub(crate) fn strided(values: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        let matrix = Self {
            values,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        };
        assert!(matrix.extent() <= values.len(), "values of a matrix");
        matrix
    }

    /// Its transpose, without moving a value.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// One of its rows.
    ///
    /// # Panics
    /// If the values of a row are not one after the other.
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        assert_eq!(self.col_stride, 1, "rows in one piece");
        &self.values[row * self.row_stride..][..self.cols]
    }

    /// Some of its rows.
    pub(crate) fn some_rows(self, first: usize, rows: usize) -> Self {
        assert!(first + rows <= self.rows, "rows of a matrix");
        Self {
            values: &self.values[(first * self.row_stride).min(self.values.len())..],
            rows,
            ..self
        }
    }

    /// How many values it reaches over.
    fn extent(&self) -> usize {
        if self.rows == 0 || self.cols == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride + 1
    }
}

/// `target = a b`, or `target += a b`, on this thread alone; `target` has `b.cols` values a row,
/// `stride` apart.
///
/// # Panics
/// If the sizes do not fit.
#[allow(unsafe_code)]
pub(crate) fn multiply_into(
    target: &mut [f32],
    stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    factor: f32,
    add: bool,
) {
    assert_eq!(a.cols, b.rows, "inner sizes of a product");
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    assert!(stride >= b.cols, "rows of a product do not overlap");
    let extent = (a.rows - 1) * stride + b.cols;
    assert!(extent <= target.len(), "size of a product");
    assert!(a.extent() <= a.values.len() && b.extent() <= b.values.len());
    // SAFETY: by the assertions above, every element that is read or written lies within its
    // slice; the target is borrowed mutably, so it overlaps with nothing that is read.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            target.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.values.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// `a b`, row after row, on all threads.
pub(crate) fn multiply(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let mut target = vec![0.0; a.rows * b.cols];
    multiply_to(&mut target, a, b);
    target
}

/// `target = a b`, row after row, on all threads.
///
/// # Panics
/// If the sizes do not fit.
pub(crate) fn multiply_to(target: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    assert_eq!(target.len(), a.rows * b.cols, "size of a product");
    let work = 2 * a.cols * b.cols;
    by_rows(a.rows, work, [target], |first, rows, [part]| {
        multiply_into(part, b.cols, a.some_rows(first, rows), b, 1.0, false);
    });
}

/// Lets each thread work on its share of the rows of some matrices, each stored row after row:
/// `run` gets the first row, the number of rows and those rows of each. `work` is about the number
/// of operations for a row: little work is not shared. The shares depend on the number of threads
/// alone, and the results are in their order.
pub(crate) fn by_rows<const N: usize, R: Send>(
    rows: usize,
    work: usize,
    mut targets: [&mut [f32]; N],
    run: impl Fn(usize, usize, [&mut [f32]; N]) -> R + Sync,
) -> Vec<R> {
    if rows == 0 {
        return Vec::new();
    }
    let share = share_of(rows, work);
    if share == rows {
        return vec![run(0, rows, targets)];
    }
    let widths = targets.each_ref().map(|target| target.len() / rows);
    let mut parts = Vec::with_capacity(rows.div_ceil(share));
    for first in (0..rows).step_by(share) {
        let rows = share.min(rows - first);
        let mut i = 0;
        let part = targets.each_mut().map(|target| {
            let (part, rest) = std::mem::take(target).split_at_mut(rows * widths[i]);
            *target = rest;
            i += 1;
            part
        });
        parts.push((first, rows, part));
    }
    parts
        .into_par_iter()
        .map(|(first, rows, part)| run(first, rows, part))
        .collect()
}

/// Rows in a thread's share.
fn share_of(rows: usize, work: usize) -> usize {
    let threads = rayon::current_num_threads();
    if rows.saturating_mul(work) < WORK_SHARED_MIN {
        return rows;
    }
    // Whole tiles of the kernels.
    rows.div_ceil(threads).next_multiple_of(8).min(rows)
}

/// Operations that are worth waking another thread for: about 10 µs.
const WORK_SHARED_MIN: usize = 200_000;
