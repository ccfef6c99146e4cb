//! Token sequences of bounded length, with which predictions count.

use crate::error::ModelError;

/// Longest sequence, in positions.
pub const SEQUENCE_LEN_MAX: usize = 131_072;

/// Most tokens of a set.
const TOKENS_MAX: usize = 1 << 30;

/// One token of a document being added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: u32,
    /// Whether its prediction counts.
    pub(crate) counted: bool,
    /// Bytes of text that it covers, if it counts.
    pub(crate) bytes: u32,
}

/// Rows of tokens for a language model: at position p of a row it reads `inputs()[p]` and predicts
/// `targets()[p]`. Each token of a document is predicted in one row at most; a document of many
/// tokens gives several rows, which may overlap (the stride), so that predictions have context.
///
/// 5 bytes a token, whatever the overlap.
#[derive(Clone, PartialEq, Eq)]
pub struct Sequences {
    tokens: Vec<u32>,
    counted: Vec<bool>,
    rows: Vec<Span>,
    length: usize,
    stride: usize,
}

/// Where a row lies: `tokens[start..=start + targets]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: usize,
    targets: usize,
    /// So many of the first targets count in an earlier row.
    known: usize,
    /// Targets that count here.
    counted: usize,
    /// Bytes of text that those cover.
    bytes: usize,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    tokens: &'a [u32],
    marks: &'a [bool],
    span: Span,
}

impl<'a> Row<'a> {
    /// What is read, 1 id or more.
    pub fn inputs(&self) -> &'a [u32] {
        &self.tokens[..self.tokens.len() - 1]
    }

    /// What is predicted, as many ids.
    pub fn targets(&self) -> &'a [u32] {
        &self.tokens[1..]
    }

    /// For each target whether its prediction counts.
    pub fn marks(&self) -> impl Iterator<Item = bool> {
        let known = self.span.known;
        let marks = self.marks.iter().enumerate();
        marks.map(move |(position, &mark)| mark && position >= known)
    }

    /// Targets that count, 1 or more.
    pub fn counted(&self) -> usize {
        self.span.counted
    }

    /// Bytes of text that those targets cover.
    pub fn bytes(&self) -> usize {
        self.span.bytes
    }
}

impl Sequences {
    /// An empty set of rows of at most `length` targets; each begins `stride` targets behind the
    /// one before.
    ///
    /// # Errors
    /// [`ModelError::Config`] unless 1 ≤ `stride` ≤ `length` ≤ [`SEQUENCE_LEN_MAX`].
    pub(crate) fn new(length: usize, stride: usize) -> Result<Self, ModelError> {
        if !(1..=SEQUENCE_LEN_MAX).contains(&length) {
            return Err(ModelError::Config {
                field: "sequence_len",
                got: length.to_string(),
                allowed: "1 to 131,072",
            });
        }
        if !(1..=length).contains(&stride) {
            return Err(ModelError::Config {
                field: "stride",
                got: stride.to_string(),
                allowed: "1 to sequence_len",
            });
        }
        Ok(Self {
            tokens: Vec::new(),
            counted: Vec::new(),
            rows: Vec::new(),
            length,
            stride,
        })
    }

    /// Adds a document. Rows in which nothing counts are left out.
    ///
    /// # Errors
    /// [`ModelError::Dataset`] once the set has more than 2^30 tokens.
    pub(crate) fn push(&mut self, document: &[Token]) -> Result<(), ModelError> {
        if self.tokens.len() + document.len() > TOKENS_MAX {
            return Err(ModelError::Dataset(format!(
                "more than {TOKENS_MAX} tokens"
            )));
        }
        let base = self.tokens.len();
        self.tokens.extend(document.iter().map(|token| token.id));
        self.counted
            .extend(document.iter().map(|token| token.counted));
        let predicted = document.len().saturating_sub(1);
        let (mut start, mut reached) = (0, 0);
        while reached < predicted {
            let end = (start + self.length).min(predicted);
            // Target p of the row is the token behind it.
            let new = document[reached + 1..=end].iter();
            let new: Vec<_> = new.filter(|token| token.counted).collect();
            if !new.is_empty() {
                self.rows.push(Span {
                    start: base + start,
                    targets: end - start,
                    known: reached - start,
                    counted: new.len(),
                    bytes: new.iter().map(|token| token.bytes as usize).sum(),
                });
            }
            reached = end;
            start += self.stride;
        }
        Ok(())
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Most targets of a row.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Row `index`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn row(&self, index: usize) -> Row<'_> {
        let span = self.rows[index];
        let end = span.start + span.targets;
        Row {
            tokens: &self.tokens[span.start..=end],
            marks: &self.counted[span.start + 1..=end],
            span,
        }
    }

    /// The largest id of any token; `None` without tokens.
    pub fn id_max(&self) -> Option<u32> {
        self.tokens.iter().copied().max()
    }

    /// Bytes of text that all rows cover together.
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.bytes).sum()
    }

    /// Predictions that count in all rows together.
    pub fn counted(&self) -> usize {
        self.rows.iter().map(|row| row.counted).sum()
    }

    /// The rows at `indices`, in that order. Tokens are copied, those of overlapping rows twice.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        let mut subset = Self {
            tokens: Vec::new(),
            counted: Vec::new(),
            rows: Vec::with_capacity(indices.len()),
            ..*self
        };
        for &index in indices {
            let span = self.rows[index];
            let range = span.start..=span.start + span.targets;
            subset.rows.push(Span {
                start: subset.tokens.len(),
                ..span
            });
            subset.tokens.extend_from_slice(&self.tokens[range.clone()]);
            subset.counted.extend_from_slice(&self.counted[range]);
        }
        subset
    }
}

impl std::fmt::Debug for Sequences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequences")
            .field("rows", &self.rows.len())
            .field("length", &self.length)
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(marks: &[bool]) -> Vec<Token> {
        let token = |(index, &counted): (usize, &bool)| Token {
            id: 10 + index as u32,
            counted,
            bytes: 3,
        };
        marks.iter().enumerate().map(token).collect()
    }

    #[test]
    fn a_long_document_gives_rows_that_share_one_token() {
        let mut rows = Sequences::new(3, 3).unwrap();
        rows.push(&document(&[true; 8])).unwrap();
        let inputs: Vec<_> = (0..rows.len()).map(|r| rows.row(r).inputs()).collect();
        assert_eq!(inputs, [&[10, 11, 12][..], &[13, 14, 15], &[16]]);
        assert_eq!(rows.row(2).targets(), [17]);
        assert_eq!((rows.counted(), rows.bytes()), (7, 21));
    }

    #[test]
    fn a_stride_gives_context_and_counts_nothing_twice() {
        let mut rows = Sequences::new(4, 2).unwrap();
        rows.push(&document(&[true; 8])).unwrap();
        let marks = |r: usize| rows.row(r).marks().collect::<Vec<_>>();
        assert_eq!(rows.len(), 3);
        assert_eq!(marks(0), [true; 4]);
        assert_eq!(rows.row(1).inputs(), [12, 13, 14, 15]);
        assert_eq!(marks(1), [false, false, true, true]);
        assert_eq!(rows.row(2).inputs(), [14, 15, 16]);
        assert_eq!(marks(2), [false, false, true]);
        let subset = rows.subset(&[2, 0]);
        assert_eq!(subset.row(0), rows.row(2).with_start_of(&subset, 0));
        assert_eq!(subset.row(1).targets(), rows.row(0).targets());
        assert_eq!((subset.len(), subset.counted()), (2, 5));
    }

    impl<'a> Row<'a> {
        fn with_start_of(mut self, set: &'a Sequences, index: usize) -> Self {
            self.span.start = set.rows[index].start;
            self
        }
    }

    #[test]
    fn rows_without_anything_to_learn_are_left_out() {
        let mut rows = Sequences::new(2, 2).unwrap();
        rows.push(&document(&[true, false, false, false, true]))
            .unwrap();
        rows.push(&document(&[true])).unwrap();
        rows.push(&[]).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows.row(0).targets(), [13, 14]);
        assert_eq!((rows.row(0).counted(), rows.row(0).bytes()), (1, 3));
    }

    #[test]
    fn lengths_and_strides_out_of_range_are_refused() {
        for (length, stride) in [(0, 1), (SEQUENCE_LEN_MAX + 1, 1), (4, 0), (4, 5)] {
            assert!(Sequences::new(length, stride).is_err());
        }
    }

    proptest! {
        #[test]
        fn every_prediction_counts_once(
            marks in proptest::collection::vec(any::<bool>(), 0..60),
            length in 1usize..12,
            stride in 1usize..12,
        ) {
            let mut rows = Sequences::new(length, stride.min(length)).unwrap();
            rows.push(&document(&marks)).unwrap();
            let mut seen = Vec::new();
            for index in 0..rows.len() {
                let row = rows.row(index);
                prop_assert!(row.targets().len() <= length);
                let new = row.marks().zip(row.targets()).filter(|pair| pair.0);
                let new: Vec<u32> = new.map(|pair| *pair.1).collect();
                prop_assert_eq!(new.len(), row.counted());
                prop_assert_eq!(new.len() * 3, row.bytes());
                seen.extend(new);
            }
            let expected = marks.iter().enumerate().skip(1).filter(|pair| *pair.1);
            let expected: Vec<u32> = expected.map(|pair| 10 + pair.0 as u32).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
