//! SCAFFOLD's part of a trainer: the correction of its steps, and its own control variate
//! (Karimireddy et al. 2020, arXiv:1910.06378, option II).

use crate::error::ModelError;
use crate::parameters::{Parameters, TensorSpec, check_layout};

/// c − cᵢ, by which a party's steps are corrected: y ← y − η (g(y) + c − cᵢ).
#[derive(Debug, Clone, PartialEq)]
pub struct Correction(Parameters);

impl Correction {
    /// From the server's variate c and the party's own cᵢ, where there are any; they are zero
    /// before.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if one has another layout.
    pub fn new(
        layout: Vec<TensorSpec>,
        server: Option<&Parameters>,
        own: Option<&Parameters>,
    ) -> Result<Self, ModelError> {
        let mut correction = Parameters::zeros(layout)?;
        for (variate, sign) in [(server, 1.0), (own, -1.0)] {
            if let Some(variate) = variate {
                correction.add_scaled(variate, sign)?;
            }
        }
        Ok(Self(correction))
    }

    /// What is added to each gradient.
    pub fn parameters(&self) -> &Parameters {
        &self.0
    }

    /// The party's variate after `steps` corrected steps of `client_lr` that led to `delta`:
    /// cᵢ⁺ = cᵢ − c − delta / (K η), which is the mean of the gradients on the way.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if the delta has another layout.
    pub fn own_after(
        &self,
        delta: &Parameters,
        steps: u32,
        client_lr: f64,
    ) -> Result<Parameters, ModelError> {
        check_layout(delta.layout(), self.0.layout())?;
        let path = f64::from(steps.max(1)) * client_lr;
        let mut own = delta.clone();
        // One rounding for each value, whatever the path.
        for (value, correction) in own.values_mut().iter_mut().zip(self.0.values()) {
            *value = (-f64::from(*value) / path - f64::from(*correction)) as f32;
        }
        Ok(own)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn layout() -> Vec<TensorSpec> {
        vec![TensorSpec {
            name: "w".into(),
            shape: vec![2],
        }]
    }

    fn parameters(values: [f32; 2]) -> Parameters {
        Parameters::new(layout(), values.to_vec()).unwrap()
    }

    #[test]
    fn variates_that_are_not_there_are_zero() {
        let (server, own) = (parameters([3.0, 1.0]), parameters([1.0, 5.0]));
        let of = |server, own| {
            let correction = Correction::new(layout(), server, own).unwrap();
            correction.parameters().values().to_vec()
        };
        assert_eq!(of(None, None), [0.0, 0.0]);
        assert_eq!(of(Some(&server), None), [3.0, 1.0]);
        assert_eq!(of(None, Some(&own)), [-1.0, -5.0]);
        assert_eq!(of(Some(&server), Some(&own)), [2.0, -4.0]);
        let other = Parameters::zeros(Vec::new()).unwrap();
        assert!(Correction::new(layout(), Some(&other), None).is_err());
    }

    #[test]
    fn the_new_variate_is_the_mean_gradient_on_the_way() {
        let (server, own) = (parameters([3.0, 1.0]), parameters([1.0, 5.0]));
        let correction = Correction::new(layout(), Some(&server), Some(&own)).unwrap();
        // Four steps of 0.5 with mean gradients 7 and −2: delta = −2 (g + c − cᵢ).
        let delta = parameters([-18.0, 12.0]);
        let after = correction.own_after(&delta, 4, 0.5).unwrap();
        assert_eq!(after.values(), [7.0, -2.0]);
    }
}
