//! The codecs under one name.

use std::io::Write;

use convoke_protocol::task::{CodecKind, CompressionSpec};
use convoke_sketch::tensor_file::PART_VALUES;
use convoke_sketch::{ChunkBuffer, Source, chunk_range};
use rayon::prelude::*;

use crate::bf16::Bf16;
use crate::dct_sign::DctSign;
use crate::error::{CompressError, EncodingError};
use crate::header::{HEADER_BYTES, header};
use crate::int8::Int8;
use crate::scheme::Run;
use crate::top_k::TopK;

/// How vectors are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// See [`crate::bf16`].
    Bf16(Bf16),
    /// See [`crate::int8`].
    Int8(Int8),
    /// See [`crate::top_k`].
    TopK(TopK),
    /// See [`crate::dct_sign`].
    DctSign(DctSign),
}

impl Codec {
    /// The codec of this kind, `None` for the kind of that name; `keep_ppm` is the share of the
    /// values that the sparse ones keep, in millionths.
    #[must_use]
    pub fn new(kind: CodecKind, keep_ppm: u32) -> Option<Self> {
        match kind {
            CodecKind::None => None,
            CodecKind::Bf16 => Some(Self::Bf16(Bf16)),
            CodecKind::Int8 => Some(Self::Int8(Int8)),
            CodecKind::TopK => Some(Self::TopK(TopK { keep_ppm })),
            CodecKind::DctSign => Some(Self::DctSign(DctSign { keep_ppm })),
        }
    }

    /// That of a task's updates, if they are encoded at all.
    #[must_use]
    pub fn of_updates(spec: &CompressionSpec) -> Option<Self> {
        Self::new(spec.update, spec.keep_ppm)
    }

    /// That of a task's steps from checkpoint to checkpoint, if they are encoded at all.
    #[must_use]
    pub fn of_checkpoints(spec: &CompressionSpec) -> Option<Self> {
        Self::new(spec.checkpoint, spec.keep_ppm)
    }

    /// The length in bytes of any encoding of so many values.
    #[must_use]
    pub fn encoded_bytes(&self, values: u64) -> u64 {
        HEADER_BYTES as u64 + self.run().run_bytes(values)
    }

    /// Encodes a vector, in parallel. Total: what is not finite gives an encoding that
    /// [`Self::decode`] refuses.
    #[must_use]
    pub fn encode(&self, values: &[f32]) -> Vec<u8> {
        let run = self.run();
        let mut bytes = vec![0; self.encoded_bytes(values.len() as u64) as usize];
        let (head, body) = bytes.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&self.header(values.len() as u64));
        values
            .par_chunks(PART_VALUES)
            .zip(body.par_chunks_mut(self.part_bytes()))
            .for_each(|(values, bytes)| run.encode_run(values, bytes));
        bytes
    }

    /// Encodes what need not fit in memory: a part a thread is there at once. Gives the bytes of
    /// [`Self::encode`].
    ///
    /// # Errors
    /// If values cannot be read, or `writer` fails.
    pub fn encode_to(
        &self,
        source: &(impl Source + ?Sized),
        writer: &mut impl Write,
    ) -> Result<(), CompressError> {
        let (run, values) = (self.run(), source.count());
        let mut write = |bytes: &[u8]| writer.write_all(bytes).map_err(CompressError::Write);
        write(&self.header(values))?;
        let parts = values.div_ceil(PART_VALUES as u64);
        let batch = 4 * rayon::current_num_threads() as u64;
        for first in (0..parts).step_by(batch as usize) {
            let encoded = (first..parts.min(first + batch))
                .into_par_iter()
                .map_init(ChunkBuffer::default, |buffer, part| {
                    let values = source.get(chunk_range(part, PART_VALUES, values), buffer)?;
                    let mut bytes = vec![0; run.run_bytes(values.len() as u64) as usize];
                    run.encode_run(values, &mut bytes);
                    Ok(bytes)
                })
                .collect::<Result<Vec<_>, CompressError>>()?;
            for bytes in encoded {
                write(&bytes)?;
            }
        }
        Ok(())
    }

    /// Decodes a vector, in parallel. All values are finite then.
    ///
    /// # Errors
    /// [`EncodingError`] if the bytes are not of the length that this codec makes of so many
    /// values, have another header, or a block that no encoder makes. What `values` holds then is
    /// of no meaning.
    pub fn decode(&self, bytes: &[u8], values: &mut [f32]) -> Result<(), EncodingError> {
        let (got, expected) = (bytes.len() as u64, self.encoded_bytes(values.len() as u64));
        if got != expected {
            return Err(EncodingError::Length { got, expected });
        }
        let (head, body) = bytes.split_at(HEADER_BYTES);
        self.expect_header(head, values.len() as u64)?;
        values
            .par_chunks_mut(PART_VALUES)
            .zip(body.par_chunks(self.part_bytes()))
            .enumerate()
            .map(|(part, (values, bytes))| {
                self.decode_blocks((part * PART_VALUES) as u64, bytes, values)
            })
            .collect()
    }

    /// Decodes a run that begins with value number `first`.
    pub(crate) fn decode_blocks(
        &self,
        first: u64,
        bytes: &[u8],
        values: &mut [f32],
    ) -> Result<(), EncodingError> {
        let run = self.run();
        let of_run = |(block, flaw)| EncodingError::Block {
            block: first / run.block() as u64 + block,
            flaw,
        };
        run.decode_run(bytes, values).map_err(of_run)
    }

    /// Compares the first bytes of an encoding with what they must be.
    pub(crate) fn expect_header(&self, bytes: &[u8], values: u64) -> Result<(), EncodingError> {
        match bytes == self.header(values) {
            true => Ok(()),
            false => Err(EncodingError::Header),
        }
    }

    pub(crate) fn run(&self) -> &dyn Run {
        match self {
            Self::Bf16(scheme) => scheme,
            Self::Int8(scheme) => scheme,
            Self::TopK(scheme) => scheme,
            Self::DctSign(scheme) => scheme,
        }
    }

    fn header(&self, values: u64) -> [u8; HEADER_BYTES] {
        let run = self.run();
        // Both are 4,096 at most.
        header(run.number(), values, run.block() as u32, run.kept() as u32)
    }

    fn part_bytes(&self) -> usize {
        self.run().run_bytes(PART_VALUES as u64) as usize
    }
}
