//! SCAFFOLD's server control variate, computed again from the checkpoints: bit by bit.

use std::path::Path;

use convoke_protocol::control::ControlStep;
use convoke_protocol::ids::{BlobHash, RoundId};
use convoke_protocol::record::{RecordedUpdate, RoundRecord};
use convoke_protocol::task::TaskSpec;
use convoke_sketch::{ChunkBuffer, SketchError, TensorFile};

use super::report::Check;
use super::step::ranges;

const NAME: &str = "control variate";

/// What the variate is checked with.
#[derive(Debug, Clone)]
pub(crate) struct ControlFacts {
    /// The task file.
    pub(crate) spec: TaskSpec,
    /// Trainers drawn for the round.
    pub(crate) cohort: u32,
}

/// The blobs of a check.
pub(crate) fn blobs_of(record: &RoundRecord) -> impl Iterator<Item = BlobHash> + use<> {
    let step = &record.step;
    let variates = [step.control_before, step.control_after];
    let checkpoints = [record.base, record.checkpoint];
    checkpoints
        .into_iter()
        .chain(variates.into_iter().flatten())
}

/// Checks the variate of a round whose record was found to be true otherwise, with the files that
/// are to be had. That the variate before the round is the one that the last round led to is for
/// that round's record to say.
pub(crate) fn check_control<'a>(
    facts: &ControlFacts,
    record: &RoundRecord,
    file: impl Fn(&BlobHash) -> Option<&'a Path>,
) -> Check {
    let step = &record.step;
    let (before, after) = (step.control_before, step.control_after);
    if record.round == RoundId::FIRST && before.is_some() {
        return Check::fails(NAME, "there is a variate before the first step");
    }
    if record.base == record.checkpoint {
        let found = match before == after {
            true => Ok(()),
            false => Err("nothing was kept, and the variate is another one".to_owned()),
        };
        return Check::of(NAME, "nothing was kept, and nothing changed".into(), found);
    }
    let kept = record.dossier.updates.iter().filter(|e| e.weight > 0);
    let examples = kept.map(|e: &RecordedUpdate| e.update.header.num_examples);
    let control = ControlStep::of(&facts.spec, record.round, facts.cohort, examples);
    let (Some(control), Some(after)) = (control, after) else {
        return Check::fails(NAME, "the step has none");
    };
    let files = [
        Some(record.base),
        Some(record.checkpoint),
        Some(after),
        before,
    ];
    let [base, checkpoint, told, before] = files.map(|blob| blob.map(|blob| file(&blob)));
    let (Some(Some(base)), Some(Some(checkpoint)), Some(Some(told))) = (base, checkpoint, told)
    else {
        return Check::not_checkable(NAME, "the checkpoints or the variate are not to be had");
    };
    if before == Some(None) {
        return Check::not_checkable(NAME, "the variate before the round is not to be had");
    }
    let compared = || -> Result<Option<u64>, SketchError> {
        let base = TensorFile::open(base)?;
        let open = |path: &Path| TensorFile::open_like(path, base.layout());
        let (checkpoint, told) = (open(checkpoint)?, open(told)?);
        let before = before.flatten().map(open).transpose()?;
        first_lie(
            &control.map(&facts.spec),
            &[&base, &checkpoint, &told],
            before.as_ref(),
        )
    };
    match compared() {
        Ok(None) => Check::holds(NAME, "follows from the checkpoints, bit by bit"),
        Ok(Some(index)) => Check::fails(NAME, format!("value {index} is another")),
        Err(error) => Check::fails(NAME, error.to_string()),
    }
}

/// The first value that does not follow from the others.
fn first_lie(
    map: &impl Fn(f32, f32, f32) -> f32,
    [base, checkpoint, told]: &[&TensorFile; 3],
    before: Option<&TensorFile>,
) -> Result<Option<u64>, SketchError> {
    let mut buffers = [(); 4].map(|()| ChunkBuffer::default());
    for range in ranges(base.layout().values()) {
        let [first, second, third, fourth] = &mut buffers;
        let old = base.read(range.clone(), first)?;
        let new = checkpoint.read(range.clone(), second)?;
        let told = told.read(range.clone(), third)?;
        let before = match before {
            Some(before) => Some(before.read(range.clone(), fourth)?),
            None => None,
        };
        for (place, ((old, new), told)) in old.iter().zip(&*new).zip(&*told).enumerate() {
            let variate = before.as_ref().map_or(0.0, |before| before[place]);
            if map(variate, *old, *new).to_bits() != told.to_bits() {
                return Ok(Some(range.start + place as u64));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_aggregator::control::advance;

    use super::super::report::Outcome;
    use super::super::tests::{World, path, put};
    use super::*;

    #[test]
    fn a_variate_that_does_not_follow_from_the_checkpoints_shows() {
        let world = World::with_momentum(0.0);
        let mut record = world.record.clone();
        let text = "name = \"t\"\n[model]\nkind = \"mlp\"\n[training]\nmomentum = 0.0\n\
                    control_variates = true\n[aggregation]\nserver_lr = 0.7\n";
        let facts = ControlFacts {
            spec: TaskSpec::parse(text).unwrap(),
            cohort: 8,
        };
        let dir = world.dir.path();
        let control = ControlStep::of(&facts.spec, record.round, 8, 100..105).unwrap();
        let (base, checkpoint) = (record.base, record.checkpoint);
        let after = advance(dir, &facts.spec, &control, &base, &checkpoint).unwrap();
        record.step.control_after = after;
        let checked = |facts: &ControlFacts, record: &RoundRecord| {
            let blobs: Vec<_> = blobs_of(record)
                .map(|blob| (blob, path(dir, &blob)))
                .collect();
            let file = |wanted: &BlobHash| {
                let found = blobs.iter().find(|(blob, _)| blob == wanted);
                found.map(|(_, path)| path.as_path()).filter(|p| p.exists())
            };
            check_control(facts, record, file).outcome
        };
        assert_eq!(checked(&facts, &record), Outcome::Holds);
        let mut other = facts.clone();
        other.cohort = 7;
        assert_eq!(checked(&other, &record), Outcome::Fails);
        let lies: [fn(&mut RoundRecord, BlobHash); 3] = [
            |record, _| record.step.control_after = None,
            |record, zeros| record.step.control_after = Some(zeros),
            |record, zeros| record.step.control_before = Some(zeros),
        ];
        let zeros = put(dir, &[0.0; 20_000]);
        for lie in lies {
            let mut record = record.clone();
            lie(&mut record, zeros);
            assert_eq!(checked(&facts, &record), Outcome::Fails);
        }
        record.step.control_after = Some(BlobHash([3; 32]));
        assert_eq!(checked(&facts, &record), Outcome::NotCheckable);
    }
}
