//! Labelled grey images in memory.

use crate::error::{ModelError, in_range};

/// Shortest side of an image that a model takes, in pixels.
const SIDE_MIN: usize = 4;

/// Longest side of an image, in pixels.
pub const SIDE_MAX: usize = 512;

/// Grey images of one size with a class each.
///
/// Pixels are kept as bytes and become numbers batch by batch, so that a set costs its file size.
#[derive(Clone, PartialEq, Eq)]
pub struct Images {
    images: Vec<u8>,
    height: usize,
    width: usize,
    labels: Vec<u8>,
    classes: usize,
}

impl Images {
    /// Puts images and labels together.
    ///
    /// `images` holds one image after the other, each `height * width` bytes, row by row.
    /// `labels` holds one class per image, each below `classes`.
    ///
    /// # Errors
    /// [`ModelError::Dataset`] if a side is not in 1..=[`SIDE_MAX`], `classes` not in 1..=256,
    /// the numbers of images and labels differ, or a label is not below `classes`.
    pub fn new(
        images: Vec<u8>,
        height: usize,
        width: usize,
        labels: Vec<u8>,
        classes: usize,
    ) -> Result<Self, ModelError> {
        let sides = 1..=SIDE_MAX;
        if !sides.contains(&height) || !sides.contains(&width) {
            return Err(ModelError::Dataset(format!(
                "images of {height}x{width} pixels, sides of 1 to {SIDE_MAX} are allowed"
            )));
        }
        if !(1..=256).contains(&classes) {
            return Err(ModelError::Dataset(format!(
                "{classes} classes, 1 to 256 are allowed"
            )));
        }
        if images.len() != labels.len() * height * width {
            return Err(ModelError::Dataset(format!(
                "{} bytes of images, {} labels need {}",
                images.len(),
                labels.len(),
                labels.len() * height * width
            )));
        }
        if let Some(label) = labels.iter().find(|&&label| usize::from(label) >= classes) {
            return Err(ModelError::Dataset(format!(
                "label {label} in a set of {classes} classes"
            )));
        }
        Ok(Self {
            images,
            height,
            width,
            labels,
            classes,
        })
    }

    /// Checks that a classifier of images of that size and number of classes can take the set,
    /// which may have fewer classes.
    pub(crate) fn check_for(
        &self,
        height: usize,
        width: usize,
        classes: usize,
    ) -> Result<(), ModelError> {
        if (self.height, self.width) != (height, width) {
            return Err(ModelError::Dataset(format!(
                "images of {}x{} pixels, the model takes {height}x{width}",
                self.height, self.width
            )));
        }
        match self
            .labels
            .iter()
            .find(|&&label| usize::from(label) >= classes)
        {
            Some(label) => Err(ModelError::Dataset(format!(
                "label {label}, the model has {classes} classes"
            ))),
            None => Ok(()),
        }
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Height of each image, in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width of each image, in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of classes; a subset may lack some of them.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of each example.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// All pixels, `len * height * width` bytes.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// The pixels of example `index`, `height * width` bytes.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.height * self.width;
        &self.images[index * size..(index + 1) * size]
    }

    /// The examples at `indices`, in that order, with the same classes.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        let mut images = Vec::with_capacity(indices.len() * self.height * self.width);
        for &index in indices {
            images.extend_from_slice(self.image(index));
        }
        Self {
            images,
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            ..*self
        }
    }

    /// Examples of each class, `classes` numbers.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &label in &self.labels {
            counts[usize::from(label)] += 1;
        }
        counts
    }

    /// Writes the normalized pixels of the examples at `indices` behind `out`.
    ///
    /// A pixel p becomes (p / 255 - [`PIXEL_MEAN`]) / [`PIXEL_DEVIATION`].
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn normalized(&self, indices: &[usize], out: &mut Vec<f32>) {
        out.reserve(indices.len() * self.height * self.width);
        for &index in indices {
            out.extend(self.image(index).iter().map(|&pixel| normalize(pixel)));
        }
    }
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images")
            .field("len", &self.len())
            .field("height", &self.height)
            .field("width", &self.width)
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

/// Checks the sizes that a classifier of images is set to.
pub(crate) fn check_images(height: usize, width: usize, classes: usize) -> Result<(), ModelError> {
    for (field, side) in [("height", height), ("width", width)] {
        let good = (SIDE_MIN..=SIDE_MAX).contains(&side);
        in_range(field, side, good, "4 to 512 pixels")?;
    }
    in_range("classes", classes, (2..=256).contains(&classes), "2 to 256")
}

fn normalize(pixel: u8) -> f32 {
    (f32::from(pixel) / 255.0 - PIXEL_MEAN) / PIXEL_DEVIATION
}

/// Mean that pixels are shifted by, of a range of 0 to 1. All parties must use the same one, and
/// nobody sees all data: so it is a constant, near that of Fashion-MNIST.
pub const PIXEL_MEAN: f32 = 0.286;

/// Deviation that pixels are divided by, likewise.
pub const PIXEL_DEVIATION: f32 = 0.353;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn small() -> Images {
        Images::new((0..12).collect(), 2, 2, vec![0, 2, 1], 3).unwrap()
    }

    #[test]
    fn subset_keeps_order_and_classes() {
        let subset = small().subset(&[2, 0]);
        assert_eq!(subset.images(), [8, 9, 10, 11, 0, 1, 2, 3]);
        assert_eq!(subset.labels(), [1, 0]);
        assert_eq!(subset.classes(), 3);
        assert_eq!(subset.class_counts(), [1, 1, 0]);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        assert!(Images::new(vec![0; 8], 2, 2, vec![0, 3], 3).is_err());
        assert!(Images::new(vec![0; 9], 2, 2, vec![0, 1], 3).is_err());
        assert!(Images::new(vec![], 0, 2, vec![], 3).is_err());
        assert!(Images::new(vec![], 2, SIDE_MAX + 1, vec![], 3).is_err());
        assert!(Images::new(vec![], 2, 2, vec![], 257).is_err());
    }

    #[test]
    fn pixels_are_normalized_in_the_order_of_the_indices() {
        let mut out = Vec::new();
        small().normalized(&[1], &mut out);
        let expected: Vec<f32> = (4..8)
            .map(|p| (p as f32 / 255.0 - PIXEL_MEAN) / PIXEL_DEVIATION)
            .collect();
        assert_eq!(out, expected);
    }
}
