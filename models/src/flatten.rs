//! From burn's module tree to flat parameters and back.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::error::ModelError;
use crate::parameters::{Parameters, TensorSpec};

/// Names and shapes of a module's parameters, ordered by name. Initializes nothing.
pub(crate) fn layout_of(module: &impl Module) -> Vec<TensorSpec> {
    let mut visitor = LayoutVisitor::default();
    module.visit(&mut visitor);
    visitor.layout.sort_unstable();
    visitor.layout
}

/// Reads those parameters of a module that `layout` names.
///
/// # Errors
/// [`ModelError::Compute`] if the device fails.
///
/// # Panics
/// If the module lacks one.
pub(crate) fn flatten(
    module: &impl Module,
    layout: &[TensorSpec],
) -> Result<Parameters, ModelError> {
    let wanted = layout.iter().map(|spec| spec.name.as_str()).collect();
    let mut visitor = ValuesVisitor {
        path: Path::default(),
        wanted,
        tensors: BTreeMap::new(),
        error: None,
    };
    module.visit(&mut visitor);
    if let Some(error) = visitor.error {
        return Err(ModelError::Compute(error));
    }
    let mut values = Vec::with_capacity(layout.iter().map(TensorSpec::len).sum());
    for spec in layout {
        let tensor = visitor.tensors.remove(&spec.name);
        values.extend(tensor.expect("the layout is the module's"));
    }
    Parameters::new(layout.to_vec(), values)
}

/// Puts parameters in their places in a module, to be trained. All others stay as they are.
pub(crate) fn unflatten<M: Module>(module: M, parameters: &Parameters, device: &Device) -> M {
    let tensors = parameters
        .tensors()
        .map(|(spec, values)| (spec.name.as_str(), (spec, values)))
        .collect();
    module.map(&mut Loader {
        path: Path::default(),
        tensors,
        device,
    })
}

/// What is subtracted from a module's parameters, on its device.
pub(crate) struct Shift(BTreeMap<String, Tensor<1>>);

impl Shift {
    /// `factor` · `parameters`.
    pub(crate) fn new(parameters: &Parameters, factor: f64, device: &Device) -> Self {
        let scaled = |value: &f32| (f64::from(*value) * factor) as f32;
        let tensor = |(spec, values): (&TensorSpec, &[f32])| {
            let values: Vec<f32> = values.iter().map(scaled).collect();
            let data = TensorData::new(values, [spec.len()]);
            (spec.name.clone(), Tensor::from_data(data, device))
        };
        Self(parameters.tensors().map(tensor).collect())
    }

    /// What is subtracted from the parameter of that name, as one row.
    pub(crate) fn get(&self, name: &str) -> Option<&Tensor<1>> {
        self.0.get(name)
    }

    /// The module that much further down, where it has parameters of those names.
    pub(crate) fn subtract_from<M: Module>(&self, module: M) -> M {
        module.map(&mut Subtracter {
            path: Path::default(),
            shift: self,
        })
    }
}

/// Where in the module tree a traversal stands. The variant of an enum is no part of a
/// parameter's name: names are those of the variant's module.
#[derive(Default)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with(ENUM) {
            self.0.push(name.to_owned());
        }
    }

    pub(crate) fn exit(&mut self, container: &str) {
        if !container.starts_with(ENUM) {
            self.0.pop();
        }
    }

    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }
}

const ENUM: &str = "Enum:";

#[derive(Default)]
struct LayoutVisitor {
    path: Path,
    layout: Vec<TensorSpec>,
}

impl ModuleVisitor for LayoutVisitor {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.layout.push(TensorSpec {
            name: self.path.name(),
            shape: param.lazy_shape().to_vec(),
        });
    }
}

struct ValuesVisitor<'a> {
    path: Path,
    wanted: BTreeSet<&'a str>,
    tensors: BTreeMap<String, Vec<f32>>,
    error: Option<String>,
}

impl ModuleVisitor for ValuesVisitor<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        if !self.wanted.contains(name.as_str()) {
            return;
        }
        match param.val().try_into_vec_as::<f32>() {
            Ok(values) => {
                self.tensors.insert(name, values);
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }
}

struct Subtracter<'a> {
    path: Path,
    shift: &'a Shift,
}

impl ModuleMapper for Subtracter<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(shift) = self.shift.0.get(self.path.name().as_str()) else {
            return param;
        };
        let value = param.val();
        let shift = shift.clone().reshape(value.shape());
        // A leaf again: the gradient of the next step ends here.
        Param::initialized(param.id, (value - shift).detach()).set_require_grad(true)
    }
}

struct Loader<'a> {
    path: Path,
    tensors: BTreeMap<&'a str, (&'a TensorSpec, &'a [f32])>,
    device: &'a Device,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((spec, values)) = self.tensors.get(self.path.name().as_str()) else {
            return param;
        };
        let data = TensorData::new(values.to_vec(), spec.shape.clone());
        // A new leaf in place of the lazy initial value, which is never computed. Without
        // `set_require_grad` it would be frozen silently.
        Param::initialized(param.id, Tensor::from_data(data, self.device)).set_require_grad(true)
    }
}
