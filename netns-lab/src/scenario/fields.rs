//! Tables of a scenario: fields that are known, and values of the right type.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Fault;
use super::schema::Section;
use super::values;
use crate::preset::near;
use std::time::Duration;

/// A table all of whose fields are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'t> {
    table: &'t DeTable<'t>,
}

/// The value of a field.
#[derive(Debug, Clone)]
pub(super) struct Value<'t> {
    pub(super) span: Range<usize>,
    value: &'t DeValue<'t>,
}

/// A name that the scenario has made up, and what it stands for.
pub(super) type Named<'t> = (&'t str, Range<usize>, Value<'t>);

impl<'t> Fields<'t> {
    /// Takes a table that may have the fields of a section.
    pub(super) fn new(table: &'t DeTable<'t>, section: &Section) -> Result<Self, Fault> {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !section.has(name) {
                let known: Vec<_> = section.names().collect();
                let message = format!("unknown field in {}{}", section.title, hint(name, &known));
                return Err(Fault::new(key.span(), message));
            }
        }
        Ok(Self { table })
    }

    pub(super) fn get(&self, name: &str) -> Option<Value<'t>> {
        let (_, value) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(Value::new(value))
    }

    /// Returns the value of a field, after a conversion.
    pub(super) fn read<T>(
        &self,
        name: &str,
        convert: impl FnOnce(Value<'t>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        self.get(name).map(convert).transpose()
    }

    /// Returns where a field's name stands.
    pub(super) fn key(&self, name: &str) -> Option<Range<usize>> {
        let key = self.table.keys().find(|key| key.get_ref() == name)?;
        Some(key.span())
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

    pub(super) const fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
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
        let text = match self.value {
            DeValue::String(text) => text.as_ref(),
            _ => return Err(self.wrong_type(wanted)),
        };
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

    pub(super) fn list(&self) -> Result<Vec<Self>, Fault> {
        let wanted = || self.wrong_type("a list in brackets");
        let list = self.value.as_array().ok_or_else(wanted)?;
        Ok(list.iter().map(Value::new).collect())
    }

    pub(super) fn fields(&self, section: &Section) -> Result<Fields<'t>, Fault> {
        Fields::new(self.table()?, section)
    }

    /// Returns what a table has under made-up names, in the order of the text.
    pub(super) fn named(&self) -> Result<Vec<Named<'t>>, Fault> {
        let entries = self.table()?.iter();
        let named = |(key, value): (&'t Spanned<_>, &'t Spanned<DeValue<'t>>)| {
            let name: &std::borrow::Cow<'t, str> = key.get_ref();
            (name.as_ref(), key.span(), Value::new(value))
        };
        let mut named: Vec<_> = entries.map(named).collect();
        named.sort_by_key(|(_, span, _)| span.start);
        Ok(named)
    }

    fn table(&self) -> Result<&'t DeTable<'t>, Fault> {
        let wanted = || self.wrong_type("a table");
        self.value.as_table().ok_or_else(wanted)
    }
}

/// Returns what could have been written instead, the near names first.
pub(super) fn hint(name: &str, known: &[&str]) -> String {
    let near = near(name, known.iter().copied());
    let did_you_mean = match near.as_slice() {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    };
    format!("{did_you_mean} (there are {})", known.join(", "))
}
