//! SCAFFOLD's server control variate on disk: a blob beside each checkpoint, made of two checkpoints
//! and the variate before, `convoke_protocol::control`.

use std::path::Path;

use convoke_protocol::control::ControlStep;
use convoke_protocol::ids::BlobHash;
use convoke_protocol::task::TaskSpec;
use convoke_sketch::{ChunkBuffer, TensorFile, chunk_range};

use crate::aggregate::{Belonging, Output};
use crate::error::AggregatorError;

/// Values of each file in memory at once.
const CHUNK_VALUES: usize = 1 << 16;

/// The variate that belongs to a checkpoint, if there is one: the name of a blob beside it.
///
/// # Errors
/// If what is there cannot be read.
pub fn control_of(dir: &Path, checkpoint: &BlobHash) -> Result<Option<BlobHash>, AggregatorError> {
    Ok(Belonging::CONTROL.of(dir, checkpoint)?.first().copied())
}

/// Makes the variate of `checkpoint`, which a step led to from `base`; both are in `dir`, and so is
/// the result when this returns. Done again, it gives the same bytes. A step that led nowhere leaves
/// the variate as it is. One pass over three files.
///
/// # Errors
/// If a file cannot be read or written, or the files differ in layout.
pub fn advance(
    dir: &Path,
    spec: &TaskSpec,
    step: &ControlStep,
    base: &BlobHash,
    checkpoint: &BlobHash,
) -> Result<Option<BlobHash>, AggregatorError> {
    let before = control_of(dir, base)?;
    if base == checkpoint {
        return Ok(before);
    }
    let path = |blob: &BlobHash| dir.join(blob.to_file_name());
    let base = TensorFile::open(&path(base))?;
    let open = |blob: &BlobHash| TensorFile::open_like(&path(blob), base.layout());
    let after = open(checkpoint)?;
    let before = before.as_ref().map(open).transpose()?;
    let map = step.map(spec);
    let mut output = Output::create(dir, base.header())?;
    let mut buffers = [(); 3].map(|()| ChunkBuffer::default());
    let values = base.layout().values();
    for chunk in 0..values.div_ceil(CHUNK_VALUES as u64) {
        let range = chunk_range(chunk, CHUNK_VALUES, values);
        let [first, second, third] = &mut buffers;
        let old = base.read(range.clone(), first)?;
        let new = after.read(range.clone(), second)?;
        let mut control = match &before {
            Some(file) => file.read(range, third)?.to_vec(),
            None => vec![0.0; old.len()],
        };
        for ((control, old), new) in control.iter_mut().zip(&*old).zip(&*new) {
            *control = map(*control, *old, *new);
        }
        output.write(&control)?;
    }
    let control = output.hash();
    output.persist(dir)?;
    Belonging::CONTROL.name(dir, checkpoint, &[control])?;
    Ok(Some(control))
}
