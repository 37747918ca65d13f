//! Tables of a scenario: fields that are known, and values of the right type.

use std::{ops::Range, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{error::Fault, schema::Section, values};
use crate::preset::{near, suggestion};

/// A table all of whose fields are known.
#[derive(Debug, Clone)]
pub(super) struct Fields<'t> {
    table: &'t DeTable<'t>,
    span: Range<usize>,
}

/// The value of a field.
#[derive(Debug, Clone)]
pub(super) struct Value<'t> {
    pub(super) span: Range<usize>,
    value: &'t DeValue<'t>,
}

/// A name that the scenario has made up, and what it stands for.
#[derive(Debug)]
pub(super) struct Named<'t> {
    pub(super) name: &'t str,
    /// Where the name stands.
    pub(super) span: Range<usize>,
    pub(super) value: Value<'t>,
}

impl<'t> Fields<'t> {
    /// Takes a table that may have the fields of a section.
    pub(super) fn new(
        table: &'t DeTable<'t>,
        span: Range<usize>,
        section: &Section,
    ) -> Result<Self, Fault> {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !section.has(name) {
                let known: Vec<_> = section.names().collect();
                let message = format!("unknown field in {}{}", section.title, hint(name, &known));
                return Err(Fault::new(key.span(), message));
            }
        }
        Ok(Self { table, span })
    }

    pub(super) fn get(&self, name: &str) -> Option<Value<'t>> {
        self.table.get(name).map(Value::new)
    }

    /// Returns the value of a field that must be there.
    pub(super) fn need(&self, name: &str) -> Result<Value<'t>, Fault> {
        let missing = || Fault::new(self.span.clone(), format!("`{name}` is missing"));
        self.get(name).ok_or_else(missing)
    }

    /// Returns the value of a field, after a conversion.
    pub(super) fn read<T>(
        &self,
        name: &str,
        convert: impl FnOnce(&Value<'t>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        self.get(name).map(|value| convert(&value)).transpose()
    }

    /// Returns the value of a field, after a conversion, or what it is unless told otherwise.
    pub(super) fn or<T>(
        &self,
        name: &str,
        usual: T,
        convert: impl FnOnce(&Value<'t>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.get(name).map_or(Ok(usual), |value| convert(&value))
    }

    /// Returns the members of a list, after a conversion; none if there is no list.
    pub(super) fn each<T>(
        &self,
        name: &str,
        convert: impl FnMut(&Value<'t>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        self.or(name, Vec::new(), |list| list.each(convert))
    }

    /// Returns what a table has under made-up names, in the order of the text.
    pub(super) fn named(&self, name: &str) -> Result<Vec<Named<'t>>, Fault> {
        let Some(value) = self.get(name) else {
            return Ok(Vec::new());
        };
        let named = value.table()?.iter().map(|(key, value)| Named {
            name: key.get_ref().as_ref(),
            span: key.span(),
            value: Value::new(value),
        });
        let mut named: Vec<_> = named.collect();
        named.sort_by_key(|named| named.span.start);
        Ok(named)
    }

    /// Returns where a field's name stands.
    pub(super) fn key(&self, name: &str) -> Option<Range<usize>> {
        self.table.get_key_value(name).map(|(key, _)| key.span())
    }
}

impl<'t> Value<'t> {
    pub(super) fn new(value: &'t Spanned<DeValue<'t>>) -> Self {
        Self {
            span: value.span(),
            value: value.get_ref(),
        }
    }

    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.span.clone(), message)
    }

    fn wrong_type(&self, wanted: &str) -> Fault {
        let found = self.value.type_str();
        self.fault(format!("this is of type {found}; wanted is {wanted}"))
    }

    pub(super) fn text(&self) -> Result<&'t str, Fault> {
        let wanted = "a text in quotes";
        self.value.as_str().ok_or_else(|| self.wrong_type(wanted))
    }

    pub(super) const fn is_text(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        let wanted = "true or false";
        self.value.as_bool().ok_or_else(|| self.wrong_type(wanted))
    }

    /// Returns a whole number between two, both included.
    pub(super) fn integer(&self, least: u64, most: u64) -> Result<u64, Fault> {
        let wanted = format!("a whole number from {least} to {most}");
        let Some(integer) = self.value.as_integer() else {
            return Err(self.wrong_type(&wanted));
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.fault(format!("wanted is {wanted}")))
    }

    pub(super) fn port(&self) -> Result<u16, Fault> {
        self.integer(1, u16::MAX.into()).map(|port| port as u16)
    }

    fn parsed<T>(&self, wanted: &str, parse: fn(&str) -> Option<T>) -> Result<T, Fault> {
        let text = self.value.as_str().ok_or_else(|| self.wrong_type(wanted))?;
        parse(text).ok_or_else(|| self.fault(format!("wanted is {wanted}")))
    }

    pub(super) fn duration(&self) -> Result<Duration, Fault> {
        self.parsed(values::DURATION, values::duration)
    }

    pub(super) fn rate(&self) -> Result<u64, Fault> {
        self.parsed(values::RATE, values::rate)
    }

    pub(super) fn size(&self) -> Result<u32, Fault> {
        self.parsed(values::SIZE, values::size)
    }

    pub(super) fn probability(&self) -> Result<f64, Fault> {
        let number = match self.value {
            DeValue::String(text) => values::percentage(text),
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => return Err(self.wrong_type(values::PROBABILITY)),
        };
        number
            .filter(|number| (0.0..=1.0).contains(number))
            .ok_or_else(|| self.fault(format!("wanted is {}", values::PROBABILITY)))
    }

    /// Returns what one of some words stands for.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Fault> {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        let Some(text) = self.value.as_str() else {
            return Err(self.wrong_type(&format!("one of {}", names.join(", "))));
        };
        let found = words.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| self.fault(format!("unknown word{}", hint(text, &names))))
    }

    /// Returns what one of some words stands for, or what a table of a section says,
    /// whose fields are words with a value.
    pub(super) fn word_or_table<T: Copy>(
        &self,
        words: &[(&str, T)],
        section: &Section,
        read: impl FnOnce(&Fields<'t>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.value.is_table() {
            return read(&self.fields(section)?);
        }
        match self.value.as_str() {
            Some(word) if section.has(word) => {
                Err(self.fault(format!("this needs a value, as in {{ {word} = .. }}")))
            }
            Some(_) | None => self.word(words),
        }
    }

    /// Returns the members of a list, after a conversion.
    pub(super) fn each<T>(
        &self,
        mut convert: impl FnMut(&Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let wanted = || self.wrong_type("a list in brackets");
        let list = self.value.as_array().ok_or_else(wanted)?;
        list.iter().map(|it| convert(&Value::new(it))).collect()
    }

    pub(super) fn fields(&self, section: &Section) -> Result<Fields<'t>, Fault> {
        Fields::new(self.table()?, self.span.clone(), section)
    }

    fn table(&self) -> Result<&'t DeTable<'t>, Fault> {
        let wanted = || self.wrong_type("a table");
        self.value.as_table().ok_or_else(wanted)
    }
}

/// Returns what could have been written instead, the near names first.
pub(super) fn hint(name: &str, known: &[&str]) -> String {
    let near = near(name, known.iter().copied());
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    format!("{} (there are {known})", suggestion(&near))
}
