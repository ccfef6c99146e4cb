//! Folders of safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ::safetensors::Dtype;
use ::safetensors::tensor::Metadata;
use serde::Deserialize;

use super::encoding::Encoding;
use super::manifest::check_name;
use super::{CONFIG_BYTES_MAX, Stored, bounded, refused};
use crate::error::ModelError;

/// The files of a folder: `model.safetensors`, or those that its index names.
///
/// # Errors
/// [`ModelError::Base`], [`ModelError::File`].
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let index = folder.join(INDEX);
    if !index.exists() {
        return Ok(vec![folder.join(SINGLE)]);
    }
    let text = bounded(&index, CONFIG_BYTES_MAX)?;
    let index_of: Index = serde_json::from_slice(&text).map_err(|error| refused(&index, error))?;
    let names: BTreeSet<&String> = index_of.weight_map.values().collect();
    if names.len() > FILES_MAX {
        let reason = format!("{} files, at most {FILES_MAX}", names.len());
        return Err(refused(&index, reason));
    }
    names
        .into_iter()
        .map(|name| {
            check_name(name).map_err(|reason| refused(&index, reason))?;
            Ok(folder.join(name))
        })
        .collect()
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Where the tensors of a file lie. Tensors of whole numbers, such as positions, are left out.
///
/// # Errors
/// [`ModelError::Base`], [`ModelError::File`].
pub(super) fn head(path: &Path, index: usize) -> Result<Vec<(String, Stored)>, ModelError> {
    let failed = |source| ModelError::File {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(failed)?;
    let header = u64::from_le_bytes(start);
    if header > HEADER_MAX.min(length.saturating_sub(8)) {
        return Err(refused(
            path,
            format!("a header of {header} bytes, at most {HEADER_MAX} and the file"),
        ));
    }
    let mut bytes = Vec::new();
    file.take(header).read_to_end(&mut bytes).map_err(failed)?;
    // Checks that the tensors lie one behind the other and have the lengths of their shapes.
    let metadata: Metadata =
        serde_json::from_slice(&bytes).map_err(|error| refused(path, error))?;
    let (expected, found) = (metadata.data_len() as u64, length - 8 - header);
    if expected != found {
        let reason = format!("{expected} bytes of tensors, the file has {found}");
        return Err(refused(path, reason));
    }
    let mut tensors = Vec::new();
    for (name, info) in metadata.tensors() {
        let encoding = match info.dtype {
            Dtype::F32 => Encoding::F32,
            Dtype::F16 => Encoding::F16,
            Dtype::BF16 => Encoding::Bf16,
            _ => continue,
        };
        let offset = 8 + header + info.data_offsets.0 as u64;
        let stored = Stored::new(info.shape.clone(), encoding, index, offset, length)
            .map_err(|reason| refused(path, format!("{name}: {reason}")))?;
        tensors.push((name, stored));
    }
    Ok(tensors)
}

/// The name of a folder's only file of weights.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The file that says which tensor lies in which file.
const INDEX: &str = "model.safetensors.index.json";
/// Most files of a folder.
const FILES_MAX: usize = 1024;
/// Largest header, in bytes.
const HEADER_MAX: u64 = 1 << 24;
