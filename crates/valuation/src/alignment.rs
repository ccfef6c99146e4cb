//! Alignment: what the rounds' proofs pay by, for comparison.

/// ϕᵢ = max(0, ⟨sᵢ, S⟩) with S = Σ sⱼ, for vectors sᵢ of one length (in a round: the sketches).
///
/// Without the maximum it is the Shapley value of the game v(C) = |Σ_{i∈C} sᵢ|², so the values add
/// up to the energy |S|² of the sum. It needs no data, and so cannot tell a useful direction from
/// any other that many updates share. Costs N products of vectors.
///
/// # Panics
/// If the vectors differ in length.
#[must_use]
pub fn alignment(vectors: &[&[f32]]) -> Vec<f64> {
    let Some(first) = vectors.first() else {
        return Vec::new();
    };
    let mut sum = vec![0.0; first.len()];
    for vector in vectors {
        assert_eq!(vector.len(), sum.len(), "vectors of one length");
        for (sum, value) in sum.iter_mut().zip(*vector) {
            *sum += f64::from(*value);
        }
    }
    let product = |vector: &&[f32]| {
        let terms = vector.iter().zip(&sum).map(|(v, s)| f64::from(*v) * s);
        terms.sum::<f64>().max(0.0)
    };
    vectors.iter().map(product).collect()
}
