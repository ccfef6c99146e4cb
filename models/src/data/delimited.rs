//! Tables in text: comma-separated (RFC 4180: fields may be quoted, and then hold commas, line
//! breaks and doubled quotes) and tab-separated (no quoting). The first record names the columns.

use std::borrow::Cow;

use super::files::{LINE_BYTES_MAX, TextFile, too_long};
use crate::error::ModelError;

/// Most columns of a table.
const COLUMNS_MAX: usize = 256;

/// A table being read, behind its header.
pub(crate) struct Table<'a> {
    file: &'a TextFile,
    rest: &'a str,
    /// Line that `rest` begins on, from 1.
    line: usize,
    comma: bool,
    columns: Vec<String>,
}

/// One record: the line it begins on, and as many fields as the table has columns.
#[derive(Debug, PartialEq)]
pub(crate) struct Record<'a> {
    pub(crate) line: usize,
    pub(crate) fields: Vec<Cow<'a, str>>,
}

impl<'a> Table<'a> {
    /// Reads the header. A column's name ends before a colon: RecBole writes `item_id:token`.
    ///
    /// # Errors
    /// [`ModelError::Line`].
    pub(crate) fn open(file: &'a TextFile, extension: &str) -> Result<Self, ModelError> {
        let mut table = Self {
            file,
            rest: file.text(),
            line: 1,
            comma: extension == "csv",
            columns: Vec::new(),
        };
        let header = table
            .record()?
            .ok_or_else(|| file.line_error(1, "no header: the first line names the columns"))?;
        let name = |field: &Cow<'_, str>| field.split(':').next().unwrap_or("").trim().to_owned();
        table.columns = header.fields.iter().map(name).collect();
        Ok(table)
    }

    /// Index of the first column with one of these names.
    pub(crate) fn column(&self, names: &[&str]) -> Option<usize> {
        self.columns
            .iter()
            .position(|column| names.contains(&column.as_str()))
    }

    /// The same for a column that must be there.
    ///
    /// # Errors
    /// [`ModelError::Line`] with the columns found.
    pub(crate) fn needed(&self, names: &[&str]) -> Result<usize, ModelError> {
        self.column(names).ok_or_else(|| {
            let reason = format!(
                "no column {}, the header names: {}",
                names.join(" or "),
                self.columns.join(", ")
            );
            self.file.line_error(1, reason)
        })
    }

    /// The next record that is not a blank line.
    ///
    /// # Errors
    /// [`ModelError::Line`] for one that is too long, whose quotes do not close, or with another
    /// number of fields than the header.
    fn record(&mut self) -> Result<Option<Record<'a>>, ModelError> {
        loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let line = self.line;
            let fields = self.fields(line)?;
            if fields.len() == 1 && fields[0].trim().is_empty() {
                continue;
            }
            let wanted = self.columns.len();
            if wanted > 0 && fields.len() != wanted {
                let reason = format!("{} fields, the header has {wanted}", fields.len());
                return Err(self.file.line_error(line, reason));
            }
            return Ok(Some(Record { line, fields }));
        }
    }

    fn fields(&mut self, line: usize) -> Result<Vec<Cow<'a, str>>, ModelError> {
        let begin = self.rest.len();
        let separator = if self.comma { ',' } else { '\t' };
        let mut fields = Vec::new();
        loop {
            let field = if self.comma && self.rest.starts_with('"') {
                self.quoted(line, separator)?
            } else {
                let end = self.rest.find([separator, '\n']).unwrap_or(self.rest.len());
                let (field, rest) = self.rest.split_at(end);
                self.rest = rest;
                let ends_line = !rest.starts_with(separator);
                Cow::Borrowed(if ends_line {
                    field.strip_suffix('\r').unwrap_or(field)
                } else {
                    field
                })
            };
            if begin - self.rest.len() > LINE_BYTES_MAX {
                let reason = too_long(begin - self.rest.len());
                return Err(self.file.line_error(line, reason));
            }
            fields.push(field);
            if fields.len() > COLUMNS_MAX {
                let reason = format!("more than {COLUMNS_MAX} fields");
                return Err(self.file.line_error(line, reason));
            }
            if let Some(rest) = self.rest.strip_prefix(separator) {
                self.rest = rest;
                continue;
            }
            if let Some(rest) = self.rest.strip_prefix('\n') {
                self.rest = rest;
                self.line += 1;
            }
            return Ok(fields);
        }
    }

    /// A field that begins with a quote, up to the separator or line end behind it.
    fn quoted(&mut self, line: usize, separator: char) -> Result<Cow<'a, str>, ModelError> {
        let body = &self.rest[1..];
        let mut from = 0;
        let end = loop {
            let Some(quote) = body[from..].find('"').map(|at| from + at) else {
                return Err(self.file.line_error(line, "a quote that is never closed"));
            };
            if !body[quote + 1..].starts_with('"') {
                break quote;
            }
            from = quote + 2;
        };
        let field = &body[..end];
        self.line += field.matches('\n').count();
        let rest = &body[end + 1..];
        let rest = match rest.strip_prefix('\r') {
            Some(behind) if behind.is_empty() || behind.starts_with('\n') => behind,
            _ => rest,
        };
        if !rest.is_empty() && !rest.starts_with([separator, '\n']) {
            let reason = "text behind a closing quote; a quote inside is written twice";
            return Err(self.file.line_error(line, reason));
        }
        self.rest = rest;
        Ok(if field.contains('"') {
            Cow::Owned(field.replace("\"\"", "\""))
        } else {
            Cow::Borrowed(field)
        })
    }
}

impl<'a> Iterator for Table<'a> {
    type Item = Result<Record<'a>, ModelError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.record().transpose();
        if matches!(record, Some(Err(_))) {
            self.rest = "";
        }
        record
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, extension: &str) -> Result<Vec<(usize, Vec<String>)>, ModelError> {
        let file = TextFile::new(format!("t.{extension}"), text.as_bytes().to_vec())?;
        let owned = |record: Record<'_>| {
            let fields = record.fields.into_iter().map(Cow::into_owned).collect();
            (record.line, fields)
        };
        Table::open(&file, extension)?
            .map(|record| record.map(owned))
            .collect()
    }

    #[test]
    fn quoted_fields_hold_commas_quotes_and_line_breaks() {
        let text = "a,b\r\n\"x, \"\"y\"\"\nz\",2\r\n\n,\"\"\n3,4";
        let expected = [
            (2, vec!["x, \"y\"\nz".to_owned(), "2".to_owned()]),
            (5, vec![String::new(), String::new()]),
            (6, vec!["3".to_owned(), "4".to_owned()]),
        ];
        assert_eq!(read(text, "csv").unwrap(), expected);
    }

    #[test]
    fn tabs_separate_and_quotes_mean_nothing_there() {
        let rows = read("user_id:token\titem_id:token\n1\t\"2\n", "tsv").unwrap();
        assert_eq!(rows, [(2, vec!["1".to_owned(), "\"2".to_owned()])]);
    }

    #[test]
    fn columns_are_found_by_name() {
        let file = TextFile::new("t.inter".into(), b"user_id:token\titem_id:token\n".to_vec());
        let file = file.unwrap();
        let table = Table::open(&file, "inter").unwrap();
        assert_eq!(table.column(&["item", "item_id"]), Some(1));
        let error = table.needed(&["label"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "t.inter:1: no column label, the header names: user_id, item_id"
        );
    }

    #[test]
    fn bad_tables_are_named_by_line() {
        let cases = [
            ("", "t.csv:1: no header"),
            ("a,b\n1,2\n1,2,3\n", "t.csv:3: 3 fields, the header has 2"),
            ("a,b\n\"1\n\n2\",3\n4,\"5", "t.csv:5: a quote that is never"),
            ("a,b\n\"1\"x,2\n", "t.csv:2: text behind"),
        ];
        for (text, expected) in cases {
            let error = read(text, "csv").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let wide = vec!["c"; COLUMNS_MAX + 1].join(",");
        assert!(read(&wide, "csv").is_err());
        let long = format!("a\n{}", "x".repeat(LINE_BYTES_MAX + 1));
        assert!(
            read(&long, "csv")
                .unwrap_err()
                .to_string()
                .contains("t.csv:2")
        );
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(
            rows in proptest::collection::vec(
                proptest::collection::vec("[a,\"\n\r\té]{0,6}", 2..=2), 1..6),
        ) {
            let quote = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quote).collect::<Vec<_>>().join(",");
            let text = format!("a,b\n{}", rows.iter().map(line).collect::<Vec<_>>().join("\r\n"));
            let got: Vec<_> = read(&text, "csv").unwrap().into_iter().map(|row| row.1).collect();
            prop_assert_eq!(got, rows);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[a,\"\n\r\t]{0,40}") {
            let _ = (read(&text, "csv"), read(&text, "tsv"));
        }
    }
}
