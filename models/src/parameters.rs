//! A model's parameters as one flat vector with named parts, and their file form.

use std::borrow::Cow;

use safetensors::{Dtype, SafeTensors, View};

use crate::error::ModelError;

/// Largest header of a safetensors file, in bytes. A header takes about 100 bytes a tensor.
pub const HEADER_BYTES_MAX: usize = 1 << 20;

/// Name and shape of one tensor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorSpec {
    /// Path of the parameter in its module, for example `conv1.weight`.
    pub name: String,
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The parameters of a model, or the difference of two.
///
/// Tensors are ordered by name, and `values` holds them one after the other, each row-major. A
/// safetensors file holds its data in that same order: everything behind its header is `values`
/// in little-endian bytes.
#[derive(Clone, PartialEq)]
pub struct Parameters {
    layout: Vec<TensorSpec>,
    values: Vec<f32>,
}

impl Parameters {
    /// Puts a layout and its values together.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if names do not ascend strictly or the number of values is not
    /// that of the layout. Values may be anything: see [`is_finite`](Self::is_finite).
    pub fn new(layout: Vec<TensorSpec>, values: Vec<f32>) -> Result<Self, ModelError> {
        if let Some(pair) = layout.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            return Err(ModelError::Parameters(format!(
                "tensors must be ordered by name: {} stands before {}",
                pair[0].name, pair[1].name
            )));
        }
        let expected = values_of(&layout);
        if values.len() != expected {
            return Err(ModelError::Parameters(format!(
                "{} values, the layout has {expected}",
                values.len()
            )));
        }
        Ok(Self { layout, values })
    }

    /// Parameters that are all zero.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if names do not ascend strictly.
    pub fn zeros(layout: Vec<TensorSpec>) -> Result<Self, ModelError> {
        let values = vec![0.0; values_of(&layout)];
        Self::new(layout, values)
    }

    /// Names and shapes, ordered by name.
    pub fn layout(&self) -> &[TensorSpec] {
        &self.layout
    }

    /// All values, tensor after tensor.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether no value is infinite or not a number.
    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }

    /// Euclidean norm over all values.
    pub fn norm(&self) -> f64 {
        let squares = self.values.iter().map(|&value| f64::from(value).powi(2));
        squares.sum::<f64>().sqrt()
    }

    /// Cosine of the angle to `other`, -1 to 1; 0 if either is zero.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if the layouts differ.
    pub fn cosine(&self, other: &Self) -> Result<f64, ModelError> {
        check_layout(&other.layout, &self.layout)?;
        let pairs = self.values.iter().zip(&other.values);
        let product: f64 = pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        let norms = self.norm() * other.norm();
        Ok(if norms > 0.0 { product / norms } else { 0.0 })
    }

    /// Each tensor with its values, ordered by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&TensorSpec, &[f32])> {
        let mut rest = self.values.as_slice();
        self.layout.iter().map(move |spec| {
            let (values, behind) = rest.split_at(spec.len());
            rest = behind;
            (spec, values)
        })
    }

    /// `trained - base`, value by value.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if the layouts differ.
    pub fn delta(base: &Self, trained: &Self) -> Result<Self, ModelError> {
        check_layout(&trained.layout, &base.layout)?;
        let pairs = trained.values.iter().zip(&base.values);
        Ok(Self {
            layout: base.layout.clone(),
            values: pairs.map(|(trained, base)| trained - base).collect(),
        })
    }

    /// Adds `scale * delta`, value by value.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if the layouts differ; nothing is then changed.
    pub fn add_scaled(&mut self, delta: &Self, scale: f32) -> Result<(), ModelError> {
        check_layout(&delta.layout, &self.layout)?;
        for (value, delta) in self.values.iter_mut().zip(&delta.values) {
            *value += scale * delta;
        }
        Ok(())
    }

    /// Encodes as a safetensors file: F32, little-endian, data in the order of the layout. The
    /// same parameters give the same bytes.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let views = self.tensors().map(|(spec, values)| {
            let view = ValuesView {
                shape: &spec.shape,
                values,
            };
            (spec.name.as_str(), view)
        });
        safetensors::serialize(views, None).expect("names are unique, and lengths fit their shapes")
    }

    /// Decodes a safetensors file. Nothing in it is trusted.
    ///
    /// With `expected`, tensors must have just those names and shapes.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if it is no safetensors file, its header has more than
    /// [`HEADER_BYTES_MAX`], a tensor is not F32, data does not lie in the order of the names,
    /// names or shapes are not as expected, or a value is infinite or not a number.
    pub fn from_safetensors(
        bytes: &[u8],
        expected: Option<&[TensorSpec]>,
    ) -> Result<Self, ModelError> {
        let layout = read_layout(bytes)?;
        if let Some(expected) = expected {
            check_layout(&layout, expected)?;
        }
        let data = bytes.len() - values_of(&layout) * size_of::<f32>();
        let (chunks, _) = bytes[data..].as_chunks::<4>();
        let values = chunks.iter().map(|&chunk| f32::from_le_bytes(chunk));
        let parameters = Self::new(layout, values.collect())?;
        parameters.check_finite()?;
        Ok(parameters)
    }

    fn check_finite(&self) -> Result<(), ModelError> {
        for (spec, values) in self.tensors() {
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(ModelError::Parameters(format!(
                    "{} has the value {} at {index}",
                    spec.name, values[index]
                )));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parameters")
            .field("layout", &self.layout)
            .field("values", &self.values.len())
            .finish()
    }
}

/// Reads names and shapes, in the order in which the data lies.
fn read_layout(bytes: &[u8]) -> Result<Vec<TensorSpec>, ModelError> {
    let header = bytes
        .first_chunk::<8>()
        .map_or(0, |length| u64::from_le_bytes(*length));
    if header > HEADER_BYTES_MAX as u64 {
        return Err(ModelError::Parameters(format!(
            "a header of {header} bytes, at most {HEADER_BYTES_MAX} are allowed"
        )));
    }
    let (_, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|error| ModelError::Parameters(format!("no safetensors file: {error}")))?;
    let mut layout = Vec::new();
    for name in metadata.offset_keys() {
        let info = metadata
            .info(&name)
            .ok_or_else(|| ModelError::Parameters(format!("{name} has no description")))?;
        if info.dtype != Dtype::F32 {
            return Err(ModelError::Parameters(format!(
                "{name} is {:?}, expected F32",
                info.dtype
            )));
        }
        let shape = info.shape.clone();
        layout.push(TensorSpec { name, shape });
    }
    Ok(layout)
}

/// Compares a layout with the expected one.
pub(crate) fn check_layout(got: &[TensorSpec], expected: &[TensorSpec]) -> Result<(), ModelError> {
    if got.len() != expected.len() {
        return Err(ModelError::Parameters(format!(
            "{} tensors, the model has {}",
            got.len(),
            expected.len()
        )));
    }
    match got
        .iter()
        .zip(expected)
        .find(|(got, expected)| got != expected)
    {
        None => Ok(()),
        Some((got, expected)) => Err(ModelError::Parameters(format!(
            "tensor {} of shape {:?}, the model has {} of shape {:?}",
            got.name, got.shape, expected.name, expected.shape
        ))),
    }
}

fn values_of(layout: &[TensorSpec]) -> usize {
    layout.iter().map(TensorSpec::len).sum()
}

/// One tensor as the serializer wants it.
struct ValuesView<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl View for ValuesView<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        for value in self.values {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(name: &str, shape: &[usize]) -> TensorSpec {
        TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
        }
    }

    fn small() -> Parameters {
        let layout = vec![spec("a", &[2, 3]), spec("b", &[]), spec("c.d", &[4])];
        Parameters::new(layout, (0..11).map(|v| v as f32 - 5.0).collect()).unwrap()
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        Parameters::from_safetensors(bytes, None)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn data_lies_in_the_order_of_the_layout() {
        let bytes = small().to_safetensors();
        let data: Vec<u8> = small()
            .values()
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert!(bytes.ends_with(&data));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.offset_keys(), ["a", "b", "c.d"]);
        assert_eq!(bytes, small().to_safetensors());
    }

    #[test]
    fn a_written_file_is_read_back() {
        let bytes = small().to_safetensors();
        let layout = small().layout().to_vec();
        assert_eq!(
            Parameters::from_safetensors(&bytes, Some(&layout)).unwrap(),
            small()
        );
        assert_eq!(Parameters::from_safetensors(&bytes, None).unwrap(), small());
    }

    #[test]
    fn other_names_shapes_and_counts_are_refused() {
        let bytes = small().to_safetensors();
        for expected in [
            vec![spec("a", &[2, 3]), spec("b", &[])],
            vec![spec("a", &[3, 2]), spec("b", &[]), spec("c.d", &[4])],
            vec![spec("a", &[2, 3]), spec("b", &[]), spec("c.e", &[4])],
        ] {
            assert!(Parameters::from_safetensors(&bytes, Some(&expected)).is_err());
        }
    }

    #[test]
    fn values_that_are_no_numbers_are_refused_by_name() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut bad = small();
            bad.values_mut()[8] = value;
            assert!(refusal(&bad.to_safetensors()).contains("c.d has the value"));
        }
    }

    #[test]
    fn hostile_files_are_refused() {
        let cases = [
            (vec![], "no safetensors"),
            (vec![0xff; 20], "at most"),
            (file("{", &[]), "no safetensors"),
            (
                file(
                    r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#,
                    &[0; 4],
                ),
                "F16",
            ),
            (
                file(
                    r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
                    &[0; 4],
                ),
                "no safetensors",
            ),
            (
                file(
                    r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                    &[0; 8],
                ),
                "no safetensors",
            ),
            (
                file(
                    r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                    &[0; 5],
                ),
                "no safetensors",
            ),
            (
                file(
                    r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}"#,
                    &[0; 4],
                ),
                "no safetensors",
            ),
            (
                file(
                    concat!(
                        r#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"#,
                        r#""a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#
                    ),
                    &[0; 8],
                ),
                "ordered by name",
            ),
        ];
        for (bytes, expected) in cases {
            let got = refusal(&bytes);
            assert!(got.contains(expected), "{got}, expected {expected}");
        }
    }

    #[test]
    fn a_delta_leads_from_base_to_trained() {
        let mut trained = small();
        trained.values_mut()[3] += 0.5;
        let delta = Parameters::delta(&small(), &trained).unwrap();
        assert!((delta.norm() - 0.5).abs() < 1e-12);
        let mut base = small();
        base.add_scaled(&delta, 1.0).unwrap();
        assert_eq!(base, trained);
        let other = Parameters::zeros(vec![spec("a", &[11])]).unwrap();
        assert!(base.add_scaled(&other, 1.0).is_err());
        assert!(Parameters::delta(&base, &other).is_err());
        assert_eq!(base, trained);
    }

    #[test]
    fn the_cosine_tells_the_direction() {
        let zeros = Parameters::zeros(small().layout().to_vec()).unwrap();
        let mut opposite = zeros.clone();
        opposite.add_scaled(&small(), -3.0).unwrap();
        assert!((small().cosine(&small()).unwrap() - 1.0).abs() < 1e-12);
        assert!((small().cosine(&opposite).unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(small().cosine(&zeros).unwrap(), 0.0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(
            position in 0usize..300, value in any::<u8>(), cut in 0usize..300,
            noise in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut bytes = small().to_safetensors();
            let length = bytes.len();
            bytes[position % length] = value;
            let _ = Parameters::from_safetensors(&bytes, None);
            bytes.truncate(cut);
            let _ = Parameters::from_safetensors(&bytes, None);
            let _ = Parameters::from_safetensors(&noise, None);
        }
    }
}
