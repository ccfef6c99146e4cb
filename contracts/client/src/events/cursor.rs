//! Where a stream of events stands.

use convoke_protocol::ids::Digest;
use serde::{Deserialize, Serialize};

/// Blocks remembered at most. A reorganization that goes deeper is told from the beginning.
const SEEN_MAX: usize = 256;

/// A position in the events of a chain, and the blocks by which a reorganization shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The block that the stream began with.
    start: u64,
    /// The block to read next.
    next: u64,
    /// Events of `next` with a lower number were told.
    skip: u64,
    /// The newest block of which an event was told.
    told: Option<u64>,
    /// Rising numbers.
    seen: Vec<Seen>,
}

/// A block as it was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) number: u64,
    pub(super) hash: Digest,
}

impl Cursor {
    /// Before the first event of a block.
    #[must_use]
    pub fn at(block: u64) -> Self {
        Self {
            start: block,
            next: block,
            skip: 0,
            told: None,
            seen: Vec::new(),
        }
    }

    /// The block that is read next; everything below it is told.
    #[must_use]
    pub fn next_block(&self) -> u64 {
        self.next
    }

    pub(super) fn newest(&self) -> Option<Seen> {
        self.seen.last().copied()
    }

    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    pub(super) fn has_told(&self, block: u64, log_index: u64) -> bool {
        block < self.next || (block == self.next && log_index < self.skip)
    }

    /// One event was told.
    pub(super) fn tell(&mut self, block: u64, hash: Digest, log_index: u64) {
        self.next = block;
        self.skip = log_index + 1;
        self.told = Some(block);
        self.remember(Seen {
            number: block,
            hash,
        });
    }

    /// All events up to a block were told.
    pub(super) fn pass(&mut self, block: Seen) {
        self.next = block.number + 1;
        self.skip = 0;
        self.remember(block);
    }

    fn remember(&mut self, block: Seen) {
        if self.newest() != Some(block) {
            self.seen.push(block);
        }
        let over = self.seen.len().saturating_sub(SEEN_MAX);
        self.seen.drain(..over);
    }

    /// Goes back to the first `standing` of the blocks seen. Gives the first block that is told
    /// anew, if an event of it or of a later one was told.
    pub(super) fn rewind(&mut self, standing: usize) -> Option<u64> {
        self.seen.truncate(standing);
        let from = self.newest().map_or(self.start, |block| block.number + 1);
        if from <= self.next {
            self.next = from;
            self.skip = 0;
        }
        let was_told = self.told.is_some_and(|told| told >= from);
        if was_told {
            self.told = None;
        }
        was_told.then_some(from)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seen(number: u64, hash: u8) -> Seen {
        Seen {
            number,
            hash: Digest([hash; 32]),
        }
    }

    #[test]
    fn the_position_is_behind_the_event_told_last() {
        let mut cursor = Cursor::at(5);
        assert!(cursor.has_told(4, 9) && !cursor.has_told(5, 0));
        cursor.tell(7, Digest([7; 32]), 2);
        assert!(cursor.has_told(7, 2) && !cursor.has_told(7, 3));
        cursor.pass(seen(9, 9));
        assert!(cursor.has_told(9, 100) && !cursor.has_told(10, 0));
        let text = serde_json::to_string(&cursor).unwrap();
        assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor);
    }

    #[test]
    fn only_what_was_told_is_taken_back() {
        let mut cursor = Cursor::at(0);
        cursor.tell(3, Digest([3; 32]), 0);
        cursor.pass(seen(5, 5));
        cursor.pass(seen(8, 8));
        // Block 8 fell, and nothing of 6 to 8 was told.
        let mut shallow = cursor.clone();
        assert_eq!(shallow.rewind(2), None);
        assert_eq!(shallow.next_block(), 6);
        // Everything fell.
        assert_eq!(cursor.rewind(0), Some(0));
        assert_eq!((cursor.next_block(), cursor.newest()), (0, None));
        assert_eq!(cursor.rewind(0), None, "told once");
    }

    #[test]
    fn a_block_told_in_part_that_fell_is_told_anew() {
        let mut cursor = Cursor::at(0);
        cursor.pass(seen(2, 2));
        cursor.tell(3, Digest([3; 32]), 4);
        assert_eq!(cursor.clone().rewind(1), Some(3));
        // It stands: the position within it stays.
        assert_eq!(cursor.rewind(2), None);
        assert!(cursor.has_told(3, 4) && !cursor.has_told(3, 5));
    }

    #[test]
    fn memory_is_bounded() {
        let mut cursor = Cursor::at(0);
        for number in 0..1_000 {
            cursor.pass(seen(number, 1));
        }
        assert_eq!(cursor.seen().len(), SEEN_MAX);
        assert_eq!(cursor.newest(), Some(seen(999, 1)));
    }
}
