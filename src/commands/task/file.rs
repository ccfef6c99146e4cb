//! The task file as its creator writes it: amounts in tokens, and complaints that name the line.
//! On chain amounts stand in base units, since a node must not need the token to read a task.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use convoke_aggregator::rules;
use convoke_protocol::task::{TaskFileError, TaskSpec};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::failure::HintExt as _;
use crate::money::{self, Unit};

/// The fields that hold amounts of the token.
const AMOUNTS: [&str; 4] = [
    "reward.pool",
    "stake.trainer",
    "stake.validator",
    "stake.aggregator",
];
/// The symbol of a token that is not known yet: any will do.
const ANY: &str = "";
/// Ends an amount that is not meant in tokens.
const BASE_UNITS: &str = "base units";

/// A task file that was read.
#[derive(Debug)]
pub(crate) struct TaskFile {
    path: PathBuf,
    text: String,
}

impl TaskFile {
    /// Reads a file, unchecked.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the task file {}", path.display()))
            .hint("`convoke task init` writes an example")?;
        Ok(Self {
            path: path.to_owned(),
            text,
        })
    }

    /// The same file with one field more, or another value in its place. What is no TOML is text:
    /// `training.schedule=cosine`.
    ///
    /// # Errors
    /// A field that is none, or a file that does not parse.
    pub(crate) fn with(mut self, field: &str, value: &str) -> anyhow::Result<Self> {
        let mut root: toml::Table = self
            .text
            .parse()
            .map_err(|error| anyhow!("{}: {error}", self.path.display()))?;
        let value = format!("value = {value}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(value.to_owned()));
        let mut table = &mut root;
        let mut path = field.split('.').peekable();
        while let Some(key) = path.next() {
            if path.peek().is_none() {
                table.insert(key.to_owned(), value);
                break;
            }
            let inner = table
                .entry(key)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            table = inner
                .as_table_mut()
                .with_context(|| format!("{field}: {key} is no table of the task file"))?;
        }
        self.text = toml::to_string(&root)?;
        Ok(self)
    }

    /// Checks all that can be checked before the token is known.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.spec_alone().map(drop)
    }

    /// The task where nobody is paid: amounts are as good as any.
    ///
    /// # Errors
    /// Those of [`spec`](Self::spec).
    pub(crate) fn spec_alone(&self) -> anyhow::Result<TaskSpec> {
        self.spec(&Unit::coin(ANY))
    }

    /// The task, with its amounts in units of `token`.
    ///
    /// # Errors
    /// What is wrong, with its line and what would be right.
    pub(crate) fn spec(&self, token: &Unit) -> anyhow::Result<TaskSpec> {
        let shown = self.path.display();
        let text = to_base_units(&self.text, token)
            .map_err(|(at, what)| anyhow!("{shown}, line {}: {what}", line_at(&self.text, at)))?;
        let spec = TaskSpec::parse(&text).map_err(|error| {
            let line = match &error {
                TaskFileError::Range { field, .. } => line_of(&self.text, field),
                TaskFileError::TooLong { .. } | TaskFileError::Syntax(_) => None,
            };
            match (line, error) {
                (Some(line), error) => anyhow!("{shown}, line {line}: {error}"),
                (None, error) => anyhow!("{shown}: {error}"),
            }
        })?;
        if let Err(error) = rules::by_name(&spec.aggregation.rule) {
            let line = line_of(&self.text, "aggregation.rule").unwrap_or(1);
            return Err(anyhow!("{shown}, line {line}: {error}"))
                .hint("`convoke rules` says what they do");
        }
        Ok(spec)
    }
}

/// The line, counted from 1, on which a field such as `reward.pool` stands; where it is left out,
/// the line of the nearest table around it that is there.
pub(crate) fn line_of(text: &str, field: &str) -> Option<usize> {
    // `name (its length)` is about `name`.
    let path = field.split(' ').next()?;
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut found = None;
    for key in path.split('.') {
        let Some((key, value)) = table.get_key_value(key) else {
            break;
        };
        found = Some(key.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    found.map(|at| line_at(text, at))
}

/// A task's text from the chain with its amounts in tokens, fit to be posted again.
pub(crate) fn to_tokens(text: &str, token: &Unit) -> String {
    replace_amounts(text, |value| match value.get_ref() {
        DeValue::String(digits) => {
            let amount = digits.parse().ok()?;
            // A number of TOML may not be as long as an amount.
            Some(format!("\"{} {}\"", token.plain(amount), token.symbol))
        }
        _ => None,
    })
}

/// Puts another value in the place of one, if it is there.
pub(crate) fn with_value(text: &str, field: &str, value: &str) -> String {
    match DeTable::parse(text)
        .ok()
        .and_then(|root| span_of(root.get_ref(), field))
    {
        Some(span) => splice(text, vec![(span, value.to_owned())]),
        None => text.to_owned(),
    }
}

/// The text with all amounts in base units, line by line as it was. What does not parse at all is
/// left to the task file's own parser.
fn to_base_units(text: &str, token: &Unit) -> Result<String, (usize, String)> {
    let mut wrong = None;
    let replaced = replace_amounts(text, |value| {
        let read = match value.get_ref() {
            DeValue::Integer(_) | DeValue::Float(_) => in_tokens(&text[value.span()], token),
            DeValue::String(words) => in_words(words, token),
            // Not an amount at all: the parser says so.
            _ => return None,
        };
        match read {
            Ok(digits) => Some(format!("\"{digits}\"")),
            Err(what) => {
                wrong.get_or_insert((value.span().start, what));
                None
            }
        }
    });
    wrong.map_or(Ok(replaced), Err)
}

/// `10_000` and `0.5` are tokens.
fn in_tokens(number: &str, token: &Unit) -> Result<String, String> {
    let typed = money::parse(number)?;
    token
        .amount(&typed)
        .map(|amount| amount.to_string())
        .map_err(|error| error.to_string())
}

/// `"10,000 CVK"` and `"5 base units"` say what they are; `"10000"` does not.
fn in_words(words: &str, token: &Unit) -> Result<String, String> {
    let words = words.trim();
    if let Some(digits) = words.strip_suffix(BASE_UNITS) {
        let digits = digits.trim_end();
        return match digits.parse::<u128>() {
            Ok(units) => Ok(units.to_string()),
            Err(_) => Err(format!("{digits:?} is no whole number of base units")),
        };
    }
    match words.rsplit_once(' ') {
        Some((number, unit)) if [&token.symbol, "tokens"].contains(&unit) => {
            in_tokens(number.trim_end(), token)
        }
        Some((number, _)) if token.symbol == ANY => in_tokens(number.trim_end(), token),
        Some((_, unit)) if !unit.contains(|c: char| c.is_ascii_digit()) => Err(format!(
            "{words:?} is in {unit}, the task pays in {}",
            token.symbol
        )),
        _ => Err(format!(
            "{words:?} does not say of what: write the number without quotes for tokens, or \"{words} base units\""
        )),
    }
}

fn replace_amounts(
    text: &str,
    mut replacement: impl FnMut(&Spanned<DeValue<'_>>) -> Option<String>,
) -> String {
    let Ok(root) = DeTable::parse(text) else {
        return text.to_owned();
    };
    let replacements = AMOUNTS
        .iter()
        .filter_map(|field| {
            let value = value_of(root.get_ref(), field)?;
            Some((value.span(), replacement(value)?))
        })
        .collect();
    splice(text, replacements)
}

fn span_of(root: &DeTable<'_>, field: &str) -> Option<Range<usize>> {
    value_of(root, field).map(Spanned::span)
}

fn value_of<'a, 'i>(root: &'a DeTable<'i>, field: &str) -> Option<&'a Spanned<DeValue<'i>>> {
    let (tables, key) = field.rsplit_once('.').unwrap_or(("", field));
    let mut table = root;
    for name in tables.split('.').filter(|name| !name.is_empty()) {
        table = table.get(name)?.get_ref().as_table()?;
    }
    table.get(key)
}

/// Replaces ranges that do not overlap.
fn splice(text: &str, mut replacements: Vec<(Range<usize>, String)>) -> String {
    replacements.sort_by_key(|(range, _)| range.start);
    let mut spliced = text.to_owned();
    for (range, replacement) in replacements.into_iter().rev() {
        spliced.replace_range(range, &replacement);
    }
    spliced
}

/// The line of a byte, counted from 1.
fn line_at(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::ids::Amount;

    use super::*;

    const HEAD: &str = "name = \"t\"\n[model]\nkind = \"cnn\"\n";

    fn token() -> Unit {
        Unit::token("CVK", 6).unwrap()
    }

    fn spec(rest: &str) -> anyhow::Result<TaskSpec> {
        let file = TaskFile {
            path: "task.toml".into(),
            text: format!("{HEAD}{rest}"),
        };
        file.spec(&token())
    }

    fn refused(rest: &str) -> String {
        spec(rest).unwrap_err().to_string()
    }

    #[test]
    fn a_plain_number_means_tokens() {
        let spec = spec(
            "[stake]\ntrainer = 0.5 # each\nvalidator = \"2 CVK\"\naggregator = \"7 base units\"\n\
             [reward]\npool = 10_000\n",
        );
        let spec = spec.unwrap();
        assert_eq!(spec.reward.pool, Amount(10_000_000_000));
        assert_eq!(spec.stake.trainer, Amount(500_000));
        assert_eq!(spec.stake.validator, Amount(2_000_000));
        assert_eq!(spec.stake.aggregator, Amount(7));
    }

    #[test]
    fn a_quoted_number_is_not_guessed_at() {
        let text = refused("[reward]\npool = \"1000\"\n");
        assert!(
            text.starts_with("task.toml, line 5: ") && text.contains("\"1000 base units\""),
            "{text}"
        );
        let text = refused("[reward]\npool = \"10 ETH\"\n");
        assert!(text.contains("in ETH, the task pays in CVK"), "{text}");
        let text = refused("[reward]\npool = 0.0000001\n");
        assert!(
            text.contains("line 5") && text.contains("6 decimal places"),
            "{text}"
        );
        assert!(refused("[reward]\npool = -1\n").contains("line 5"));
        assert!(refused("[reward]\npool = true\n").contains("line 5"));
    }

    #[test]
    fn before_the_token_is_known_any_will_do() {
        let file = |rest: &str| TaskFile {
            path: "task.toml".into(),
            text: format!("{HEAD}{rest}"),
        };
        file("[reward]\npool = \"10 ETH\"\n").check().unwrap();
        assert!(file("[reward]\npool = \"many ETH\"\n").check().is_err());
    }

    #[test]
    fn a_value_outside_its_range_is_named_with_its_line() {
        assert_eq!(
            refused("# waiting\n[timing]\n\ngrace_s = 0\n"),
            "task.toml, line 7: `timing.grace_s` is 0, allowed: 1 to 604800"
        );
        // The field is left out: the table that makes its default wrong is named.
        let text = refused("[cohort]\ntrainers_max = 1\n");
        assert!(text.contains("line 5: `cohort.trainers_max`"), "{text}");
        let text = refused("[reward]\nvalidators_bps = 9000\n");
        assert!(text.contains("line 4: `reward.trainers_bps"), "{text}");
    }

    #[test]
    fn every_range_error_finds_its_line() {
        let text = format!("{HEAD}[training]\nclient_lr = -1.0\n");
        assert_eq!(line_of(&text, "name (its length)"), Some(1));
        assert_eq!(line_of(&text, "training.client_lr"), Some(5));
        assert_eq!(line_of(&text, "training.momentum"), Some(4));
        assert_eq!(line_of(&text, "reward.pool"), None);
        assert_eq!(line_of("no = toml = here", "name"), None);
    }

    #[test]
    fn what_does_not_parse_is_named_with_its_line() {
        let text = refused("[training]\nlocal_epoch = 3\n");
        assert!(
            text.contains("local_epoch") && text.contains("line 5"),
            "{text}"
        );
        assert!(refused("[reward\n").contains("line 4"));
    }

    #[test]
    fn a_task_from_the_chain_can_be_posted_again() {
        let spec = spec("[reward]\npool = 12.5\n[stake]\ntrainer = 1\n").unwrap();
        let shown = to_tokens(&spec.to_toml().unwrap(), &token());
        assert!(shown.contains("pool = \"12.5 CVK\""), "{shown}");
        let file = TaskFile {
            path: "again.toml".into(),
            text: shown,
        };
        assert_eq!(file.spec(&token()).unwrap(), spec);
    }
}
