//! What users liked: pairs of users and items, in the order of time.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::Part;
use super::delimited::Table;
use super::files::{TextFile, shown};
use crate::error::ModelError;

/// Most items of a catalogue.
pub const ITEMS_MAX: usize = 1 << 24;

/// Most users of a party.
pub const USERS_MAX: usize = 1 << 24;

/// Each user's items, oldest first, none twice.
///
/// Items are numbered alike by all parties of a task. Users are a party's own: their names stay
/// in this set, and nothing about them is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Interactions {
    /// Names of the users, in the order in which the file first names them.
    users: Vec<String>,
    /// User `u` has `items[ends[u - 1]..ends[u]]`.
    ends: Vec<usize>,
    items: Vec<u32>,
    catalogue: usize,
}

impl Interactions {
    /// Reads one part of a folder: `train.csv`, `train.tsv` or `train.inter` (as RecBole writes
    /// them), `test.…` likewise; or a file. Columns: `user_id` (any text), `item_id` (a number
    /// below `items`), and `timestamp` (a number) if the order of the lines is not that of time.
    /// Every interaction counts the same, whatever a rating says; of those of one user with one
    /// item the last counts.
    ///
    /// # Errors
    /// [`ModelError::Part`], [`ModelError::File`]; [`ModelError::Line`] and [`ModelError::Field`]
    /// with file, line and field; [`ModelError::Config`] for a number of items that is not in
    /// 2..=[`ITEMS_MAX`]; [`ModelError::Dataset`] for too many users, and for no interactions.
    pub fn open(path: &Path, part: Part, items: usize) -> Result<Self, ModelError> {
        if !(2..=ITEMS_MAX).contains(&items) {
            return Err(ModelError::Config {
                field: "items",
                got: items.to_string(),
                allowed: "2 to 16,777,216",
            });
        }
        let (file, extension) = TextFile::open(path, part, &["csv", "tsv", "inter"])?;
        let rows = read(&file, extension, items)?;
        if rows.is_empty() {
            return Err(ModelError::Dataset(format!(
                "{}: no interactions",
                file.name()
            )));
        }
        Self::from_rows(&rows, items)
            .map_err(|error| ModelError::Dataset(format!("{}: {error}", file.name())))
    }

    fn from_rows(rows: &[Event<'_>], catalogue: usize) -> Result<Self, String> {
        let mut users: Vec<String> = Vec::new();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut each: Vec<Vec<(f64, u32)>> = Vec::new();
        for row in rows {
            let user = *numbers.entry(row.user.as_ref()).or_insert_with(|| {
                users.push(row.user.clone().into_owned());
                each.push(Vec::new());
                users.len() - 1
            });
            if users.len() > USERS_MAX {
                return Err(format!("more than {USERS_MAX} users"));
            }
            each[user].push((row.time, row.item));
        }
        let mut set = Self {
            users,
            ends: Vec::with_capacity(each.len()),
            items: Vec::with_capacity(rows.len()),
            catalogue,
        };
        for mut events in each {
            // Stable: the order of the lines decides between equal times.
            events.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut seen = HashSet::new();
            let mut items: Vec<u32> = events
                .into_iter()
                .rev()
                .filter(|event| seen.insert(event.1))
                .map(|event| event.1)
                .collect();
            items.reverse();
            set.items.extend(items);
            set.ends.push(set.items.len());
        }
        Ok(set)
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// The name of user `user` in the file.
    ///
    /// # Panics
    /// If `user` is not below [`users`](Self::users).
    pub fn name(&self, user: usize) -> &str {
        &self.users[user]
    }

    /// The items of user `user`, oldest first; none in subsets only.
    ///
    /// # Panics
    /// If `user` is not below [`users`](Self::users).
    pub fn items(&self, user: usize) -> &[u32] {
        let begin = user.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.items[begin..self.ends[user]]
    }

    /// Number of interactions.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no interaction.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The user and the item of interaction `index`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn pair(&self, index: usize) -> (usize, u32) {
        let user = self.ends.partition_point(|&end| end <= index);
        (user, self.items[index])
    }

    /// Number of items that there are in the task, whether they occur here or not.
    pub fn catalogue(&self) -> usize {
        self.catalogue
    }

    /// All but each user's last interaction, and that one: "leave one out" (He et al. 2017,
    /// arXiv:1708.05031). Users with a single interaction keep it and have no last one.
    #[must_use]
    pub fn leave_one_out(&self) -> (Self, Vec<Option<u32>>) {
        let mut rest = Self {
            users: self.users.clone(),
            ends: Vec::with_capacity(self.ends.len()),
            items: Vec::with_capacity(self.items.len()),
            catalogue: self.catalogue,
        };
        let mut last = Vec::with_capacity(self.users());
        for user in 0..self.users() {
            let items = self.items(user);
            let kept = items.len().saturating_sub(1).max(1).min(items.len());
            rest.items.extend(&items[..kept]);
            rest.ends.push(rest.items.len());
            last.push(items.get(kept).copied());
        }
        (rest, last)
    }

    /// The interactions at `indices`, still in the order of time, each once; users keep their
    /// places, and those without any have none.
    ///
    /// # Panics
    /// If one is not below [`len`](Self::len).
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        let mut kept = vec![false; self.items.len()];
        for &index in indices {
            kept[index] = true;
        }
        let mut subset = Self {
            users: self.users.clone(),
            ends: Vec::with_capacity(self.ends.len()),
            items: Vec::with_capacity(indices.len()),
            catalogue: self.catalogue,
        };
        let mut begin = 0;
        for &end in &self.ends {
            let all = (begin..end).filter(|&index| kept[index]);
            subset.items.extend(all.map(|index| self.items[index]));
            subset.ends.push(subset.items.len());
            begin = end;
        }
        subset
    }
}

impl std::fmt::Debug for Interactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interactions")
            .field("users", &self.users())
            .field("len", &self.len())
            .field("catalogue", &self.catalogue)
            .finish_non_exhaustive()
    }
}

/// One line of a file.
struct Event<'a> {
    user: std::borrow::Cow<'a, str>,
    item: u32,
    time: f64,
}

fn read<'a>(
    file: &'a TextFile,
    extension: &str,
    items: usize,
) -> Result<Vec<Event<'a>>, ModelError> {
    let table = Table::open(file, extension)?;
    let user = table.needed(&["user_id", "user"])?;
    let item = table.needed(&["item_id", "item"])?;
    let time = table.column(&["timestamp", "time"]);
    let rating = table.column(&["rating"]);
    let mut events = Vec::new();
    for record in table {
        let mut record = record?;
        let bad = |field: &str, value: &str, wanted: &str| {
            let reason = format!("is {}, not {wanted}", shown(value));
            file.field_error(record.line, field, reason)
        };
        let number = |column: Option<usize>, field: &str| {
            let Some(column) = column else {
                return Ok(0.0);
            };
            let text = record.fields[column].trim();
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            value.ok_or_else(|| bad(field, text, "a number"))
        };
        let (time, _) = (number(time, "timestamp")?, number(rating, "rating")?);
        let text = record.fields[item].trim();
        let found = text.parse::<u32>().ok().filter(|&id| (id as usize) < items);
        let wanted = || format!("a number from 0 to {}", items - 1);
        let found = found.ok_or_else(|| bad("item_id", text, &wanted()))?;
        if record.fields[user].trim().is_empty() {
            return Err(file.field_error(record.line, "user_id", "is empty"));
        }
        events.push(Event {
            user: std::mem::take(&mut record.fields[user]),
            item: found,
            time,
        });
    }
    Ok(events)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn open(name: &str, content: &str) -> Result<Interactions, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        Interactions::open(&path, Part::Train, 10)
    }

    const RECBOLE: &str = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n\
                           b\t3\t5\t9\na\t1\t4\t2\nb\t7\t1\t1e1\na\t9\t2\t1\nb\t4\t3\t8.5\n";

    #[test]
    fn items_come_in_the_order_of_time() {
        let set = open("t.inter", RECBOLE).unwrap();
        assert_eq!((set.users(), set.len(), set.catalogue()), (2, 5, 10));
        assert_eq!((set.name(0), set.items(0)), ("b", &[4, 3, 7][..]));
        assert_eq!((set.name(1), set.items(1)), ("a", &[9, 1][..]));
        let pairs: Vec<_> = (0..5).map(|index| set.pair(index)).collect();
        assert_eq!(pairs, [(0, 4), (0, 3), (0, 7), (1, 9), (1, 1)]);
        let some = set.subset(&[4, 2, 0]);
        assert_eq!((some.items(0), some.items(1)), (&[4, 7][..], &[1][..]));
        assert_eq!((some.users(), some.pair(2)), (2, (1, 1)));
        let one = set.subset(&[3]);
        assert_eq!((one.items(0).len(), one.pair(0)), (0, (1, 9)));
    }

    #[test]
    fn without_times_the_lines_order_them_and_the_last_of_equals_counts() {
        let set = open("t.csv", "item,user\n1,x\n2,x\n1,x\n3,y\n").unwrap();
        assert_eq!(set.items(0), [2, 1]);
        assert_eq!(set.items(1), [3]);
    }

    #[test]
    fn the_last_item_of_each_user_is_left_out() {
        let set = open("t.csv", "item,user\n1,x\n3,y\n2,x\n").unwrap();
        let (rest, last) = set.leave_one_out();
        assert_eq!(last, [Some(2), None]);
        assert_eq!((rest.items(0), rest.items(1)), (&[1][..], &[3][..]));
        assert_eq!(rest.len(), 2);
    }

    #[test]
    fn bad_rows_are_named_with_file_line_and_field() {
        let cases = [
            (
                "user_id,item_id\na,10\n",
                "t.csv:2: `item_id` is \"10\", not a number from 0 to 9",
            ),
            (
                "user_id,item_id\na,1\na,-1\n",
                "t.csv:3: `item_id` is \"-1\"",
            ),
            ("user_id,item_id\n,1\n", "t.csv:2: `user_id` is empty"),
            (
                "user_id,item_id,timestamp\na,1,x\n",
                "t.csv:2: `timestamp` is \"x\"",
            ),
            (
                "user_id,item_id,timestamp\na,1,NaN\n",
                "`timestamp` is \"NaN\", not a number",
            ),
            (
                "user_id,item_id,rating\na,1,good\n",
                "t.csv:2: `rating` is \"good\"",
            ),
            ("user,thing\na,1\n", "t.csv:1: no column item_id or item"),
            ("user_id,item_id\n", "no interactions"),
        ];
        for (content, expected) in cases {
            let error = open("t.csv", content).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(Interactions::open(Path::new("x"), Part::Test, 1).is_err());
    }
}
