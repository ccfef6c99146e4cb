//! Bounded reading of a GGUF file's head.

use std::io::Read;

use super::Metadata;

/// Reads little-endian values and never past the end of the file.
pub(super) struct Reader<R> {
    inner: R,
    /// Bytes read so far.
    position: u64,
    /// Length of the file in bytes.
    length: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R, length: u64) -> Self {
        Self {
            inner,
            position: 0,
            length,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    fn left(&self) -> u64 {
        self.length - self.position
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        if bytes.len() as u64 > self.left() {
            return Err(format!(
                "{} bytes are needed at byte {}, the file has {}",
                bytes.len(),
                self.position,
                self.length
            ));
        }
        self.inner
            .read_exact(bytes)
            .map_err(|error| error.to_string())?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.bytes().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        if length > TEXT_BYTES_MAX.min(self.left()) {
            return Err(format!(
                "a text of {length} bytes, at most {TEXT_BYTES_MAX} and the rest of the file"
            ));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| "a text that is not UTF-8".to_owned())
    }

    /// One value of metadata of the given type.
    pub(super) fn value(&mut self, kind: u32) -> Result<Metadata, String> {
        Ok(match kind {
            UINT8..=INT32 | UINT64 | INT64 => Metadata::Integer(self.integer(kind)?),
            FLOAT32 => Metadata::Float(f64::from(f32::from_le_bytes(self.bytes()?))),
            FLOAT64 => Metadata::Float(f64::from_le_bytes(self.bytes()?)),
            BOOL => Metadata::Bool(self.bytes::<1>()?[0] != 0),
            TEXT => Metadata::Text(self.text()?),
            ARRAY => self.array()?,
            other => return Err(format!("metadata of unknown type {other}")),
        })
    }

    fn integer(&mut self, kind: u32) -> Result<i64, String> {
        Ok(match kind {
            UINT8 => i64::from(self.bytes::<1>()?[0]),
            INT8 => i64::from(self.bytes::<1>()?[0] as i8),
            UINT16 => i64::from(u16::from_le_bytes(self.bytes()?)),
            INT16 => i64::from(i16::from_le_bytes(self.bytes()?)),
            UINT32 => i64::from(self.u32()?),
            INT32 => i64::from(i32::from_le_bytes(self.bytes()?)),
            INT64 => i64::from_le_bytes(self.bytes()?),
            _ => i64::try_from(self.u64()?).map_err(|_| "a number above 2^63".to_owned())?,
        })
    }

    fn array(&mut self) -> Result<Metadata, String> {
        let kind = self.u32()?;
        let count = self.u64()?;
        // Each element takes at least a byte, a text eight: what is claimed must fit what is left.
        let least = if kind == TEXT { 8 } else { 1 };
        if count > ARRAY_MAX || count * least > self.left() {
            return Err(format!(
                "an array of {count} elements, at most {ARRAY_MAX} and the rest of the file"
            ));
        }
        match kind {
            TEXT => (0..count)
                .map(|_| self.text())
                .collect::<Result<_, _>>()
                .map(Metadata::Texts),
            UINT8..=INT32 | UINT64 | INT64 => (0..count)
                .map(|_| self.integer(kind))
                .collect::<Result<_, _>>()
                .map(Metadata::Integers),
            FLOAT32 | FLOAT64 | BOOL => {
                for _ in 0..count {
                    self.value(kind)?;
                }
                Ok(Metadata::Ignored)
            }
            other => Err(format!("an array of type {other}")),
        }
    }
}

/// Longest text of the metadata, in bytes: chat templates have some thousands.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Most elements of an array: the largest vocabularies have 256 thousand tokens.
const ARRAY_MAX: u64 = 1 << 21;

const UINT8: u32 = 0;
const INT8: u32 = 1;
const UINT16: u32 = 2;
const INT16: u32 = 3;
const UINT32: u32 = 4;
const INT32: u32 = 5;
const FLOAT32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;
const UINT64: u32 = 10;
const INT64: u32 = 11;
const FLOAT64: u32 = 12;
