//! The text of a file with settings, as a list of values, each with its name and its line.

use anyhow::{anyhow, bail};
use serde::Deserialize as _;
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue, ValueDeserializer},
};

use crate::words::escaped;

/// A value, and where it stands.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name, with those of the tables that it is in.
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Value,
}

/// Returns all values of a text in their order, whose names are among those that are known, if
/// these are given.
///
/// # Errors
///
/// The text is no TOML, or a name is not known.
pub(super) fn entries(text: &str, known: Option<&[String]>) -> anyhow::Result<Vec<Entry>> {
    let parsed = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |it| it.start);
        anyhow!("line {}: {}", line(text, at), escaped(error.message()))
    })?;
    let mut entries = Vec::new();
    collect(text, parsed.get_ref(), "", &mut entries)?;
    entries.sort_by_key(|it| it.line);
    if let Some(known) = known {
        entries.iter().try_for_each(|it| check(it, known))?;
    }
    // A table that is known has nothing to say but what is in it.
    entries.retain(|it| !it.value.is_table());
    Ok(entries)
}

/// Adds what is in a table: each table, and each value.
fn collect(
    text: &str,
    table: &DeTable<'_>,
    above: &str,
    entries: &mut Vec<Entry>,
) -> anyhow::Result<()> {
    for (name, value) in table {
        let key = match above {
            "" => name.get_ref().to_string(),
            _ => format!("{above}.{}", name.get_ref()),
        };
        entries.push(Entry {
            key: key.clone(),
            line: line(text, name.span().start),
            value: owned(value)?,
        });
        if let DeValue::Table(inner) = value.get_ref() {
            collect(text, inner, &key, entries)?;
        }
    }
    Ok(())
}

fn owned(value: &Spanned<DeValue<'_>>) -> anyhow::Result<Value> {
    Ok(Value::deserialize(ValueDeserializer::from(value.clone()))?)
}

/// Returns the number of the line in which a byte is.
fn line(text: &str, at: usize) -> usize {
    let before = text.bytes().take(at);
    before.filter(|it| *it == b'\n').count() + 1
}

/// Tells whether a value is one of those that are known, and a table one that has some of these.
fn check(entry: &Entry, known: &[String]) -> anyhow::Result<()> {
    let Entry { key, line, value } = entry;
    let below = format!("{key}.");
    let has_more = known.iter().any(|it| it.starts_with(&below));
    match (has_more, value.is_table()) {
        (true, true) => Ok(()),
        (true, false) => bail!("line {line}: {key} is a table, written as [{key}]"),
        (false, _) if known.contains(key) => Ok(()),
        (false, _) => {
            let tables = known.iter().filter_map(|it| Some(it.rsplit_once('.')?.0));
            let names = known.iter().map(String::as_str).chain(tables);
            bail!(
                "line {line}: there is no setting `{}`; the nearest is `{}`",
                escaped(key),
                nearest(key, names)
            )
        }
    }
}

/// Returns the name that is most like one that is not known, by itself or with its tables.
pub(super) fn nearest<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> &'k str {
    let last = |key: &'_ str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |it: &str| {
        let (whole, part) = (strsim::jaro(key, it), strsim::jaro(&last(key), &last(it)));
        whole.max(part)
    };
    let nearest = known.max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    nearest.unwrap_or_default()
}
