//! Encodings on disk.

use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use convoke_sketch::tensor_file::{PART_VALUES, file_bytes};
use convoke_sketch::{ChunkBuffer, SketchError, Source, TensorFile, chunk_range};
use rayon::prelude::*;

use crate::codec::Codec;
use crate::error::{CompressError, EncodingError};
use crate::header::{HEADER_BYTES, values_of};

/// More values than any file has.
const VALUES_MAX: u64 = 1 << 56;

/// An encoding in a file, decoded as it is read. Memory is what is asked for at once.
#[derive(Debug)]
pub struct EncodedFile {
    path: PathBuf,
    file: File,
    codec: Codec,
    values: u64,
}

impl EncodedFile {
    /// Opens an encoding by `codec` of as many values as it says. Its blocks are looked at when
    /// they are read.
    ///
    /// # Errors
    /// [`CompressError::Encoding`] for another header, and for a length that is not that of so
    /// many values; [`CompressError::File`] if it cannot be read.
    pub fn open(path: &Path, codec: Codec) -> Result<Self, CompressError> {
        let io = CompressError::file(path);
        let file = File::open(path).map_err(&io)?;
        let got = file.metadata().map_err(&io)?.len();
        if got < HEADER_BYTES as u64 {
            let expected = HEADER_BYTES as u64;
            return Err(EncodingError::Length { got, expected }.into());
        }
        let mut head = [0; HEADER_BYTES];
        file.read_exact_at(&mut head, 0).map_err(&io)?;
        let values = values_of(&head);
        codec.expect_header(&head, values)?;
        // A count that no file has is cut: another length follows from it.
        let expected = codec.encoded_bytes(values.min(VALUES_MAX));
        if got != expected {
            return Err(EncodingError::Length { got, expected }.into());
        }
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            codec,
            values,
        })
    }

    /// Opens an encoding of so many values.
    ///
    /// # Errors
    /// As [`Self::open`], and [`EncodingError::Header`] if it is of another number.
    pub fn open_like(path: &Path, codec: Codec, values: u64) -> Result<Self, CompressError> {
        let file = Self::open(path, codec)?;
        file.expect_count(values)?;
        Ok(file)
    }

    /// [`EncodingError::Header`] if it is of another number of values.
    pub(crate) fn expect_count(&self, values: u64) -> Result<(), EncodingError> {
        match self.values == values {
            true => Ok(()),
            false => Err(EncodingError::Header),
        }
    }

    /// Decodes all of it into a file at `out`: `header`, which is that of a safetensors file of
    /// the same length, and the values. The file appears whole or not at all, and is on disk when
    /// this returns. What a killed process leaves begins with [`Self::TEMPORARY`].
    ///
    /// # Errors
    /// [`CompressError::Encoding`] for a block that no encoder makes, [`CompressError::File`] if
    /// our disk fails.
    pub fn unpack(&self, header: &[u8], out: &Path) -> Result<(), CompressError> {
        let dir = out.parent().unwrap_or(Path::new("."));
        let mut temporary = tempfile::Builder::new()
            .prefix(Self::TEMPORARY)
            .tempfile_in(dir)
            .map_err(CompressError::file(dir))?;
        let path = temporary.path().to_owned();
        let io = CompressError::file(&path);
        temporary.write_all(header).map_err(&io)?;
        let file = temporary.as_file();
        (0..self.values.div_ceil(PART_VALUES as u64))
            .into_par_iter()
            .map_init(ChunkBuffer::default, |buffer, part| {
                let range = chunk_range(part, PART_VALUES, self.values);
                let offset = header.len() as u64 + 4 * range.start;
                let values = buffer.cleared();
                self.decode(range, values)?;
                file.write_all_at(&file_bytes(values), offset).map_err(&io)
            })
            .collect::<Result<(), CompressError>>()?;
        file.sync_all().map_err(&io)?;
        let persisted = temporary.persist(out);
        persisted.map_err(|error| CompressError::file(out)(error.error))?;
        Ok(())
    }

    /// How the names of files begin that are not finished.
    pub const TEMPORARY: &str = ".dense-";

    /// Puts the values of a range into `values`, which is empty.
    fn decode(&self, range: Range<u64>, values: &mut Vec<f32>) -> Result<(), CompressError> {
        let run = self.codec.run();
        let block = run.block() as u64;
        let first = range.start / block * block;
        let end = self.values.min(range.end.next_multiple_of(block));
        let offset = HEADER_BYTES as u64 + run.run_bytes(first);
        let mut bytes = vec![0; run.run_bytes(end - first) as usize];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(CompressError::file(&self.path))?;
        values.resize((end - first) as usize, 0.0);
        self.codec.decode_blocks(first, &bytes, values)?;
        values.truncate((range.end - first) as usize);
        values.drain(..(range.start - first) as usize);
        Ok(())
    }
}

impl Source for EncodedFile {
    fn count(&self) -> u64 {
        self.values
    }

    fn copy<'a>(
        &self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a mut [f32], SketchError> {
        let values = buffer.cleared();
        match self.decode(range, values) {
            Ok(()) => Ok(values),
            Err(CompressError::File { path, source }) => Err(SketchError::File { path, source }),
            Err(CompressError::Sketch(error)) => Err(error),
            Err(error) => Err(SketchError::Malformed {
                path: self.path.clone(),
                reason: error.to_string(),
            }),
        }
    }
}

/// A delta as it travelled: whole, or encoded.
#[derive(Debug)]
pub enum Delta {
    /// A safetensors file.
    Whole(TensorFile),
    /// An encoding.
    Encoded(EncodedFile),
}

impl Delta {
    /// Opens a delta of a task with this codec.
    ///
    /// # Errors
    /// If it cannot be read, or is no delta of this kind.
    pub fn open(path: &Path, codec: Option<Codec>) -> Result<Self, CompressError> {
        match codec {
            None => Ok(Self::Whole(TensorFile::open(path)?)),
            Some(codec) => EncodedFile::open(path, codec).map(Self::Encoded),
        }
    }
}

impl Source for Delta {
    fn count(&self) -> u64 {
        match self {
            Self::Whole(file) => file.count(),
            Self::Encoded(file) => file.count(),
        }
    }

    fn copy<'a>(
        &self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a mut [f32], SketchError> {
        match self {
            Self::Whole(file) => file.copy(range, buffer),
            Self::Encoded(file) => file.copy(range, buffer),
        }
    }
}

/// Decodes an encoding in memory into a safetensors file in memory, with the header of `like`,
/// which is a safetensors file of f32 of the same layout.
///
/// # Errors
/// [`EncodingError`] as [`Codec::decode`].
pub fn wrap(codec: Codec, bytes: &[u8], like: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let length = like.first_chunk().copied().map_or(0, u64::from_le_bytes);
    let head = length.saturating_add(8).min(like.len() as u64) as usize;
    let (header, data) = like.split_at(head);
    let mut values = vec![0.0; data.len() / 4];
    codec.decode(bytes, &mut values)?;
    Ok([header, &file_bytes(&values)].concat())
}
