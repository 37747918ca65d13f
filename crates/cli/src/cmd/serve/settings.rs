//! The settings of `serve`: defaults, a file, variables and the command line, one above the other.

mod document;
mod limits;

use std::{
    env, fmt,
    fs::File,
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use p2pconnect::{CoordinatorAddr, Readers};
use p2pconnect_proto::message::MAX_PLACES;
use serde::{Deserialize, Deserializer, de::Error as _};
use toml::{Table, Value};

use self::limits::Limits;
use crate::{
    args::{self, Given, KeyFile, listen_address},
    environment,
    logging::Format,
    words::escaped,
};

/// The example file, whose every value is the default.
const DEFAULTS: &str = include_str!("../../../../../packaging/serve.toml");

/// What the names of variables begin with.
const PREFIX: &str = "P2PCONNECT_SERVE_";

/// The variable with the path of the file.
const FILE: &str = "P2PCONNECT_SERVE_CONFIG";

/// The variable that has named the key for longer than the others are there.
const KEY: &str = "P2PCONNECT_COORDINATOR_KEY";

/// The longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// All settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Settings {
    #[serde(deserialize_with = "address")]
    pub(super) listen: SocketAddr,
    #[serde(deserialize_with = "addresses")]
    pub(super) stun: Vec<SocketAddr>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) websocket: Option<SocketAddr>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) websocket_certificate: Option<PathBuf>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) websocket_key: Option<PathBuf>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) user: Option<String>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) key: Option<PathBuf>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) former_key: Option<PathBuf>,
    pub(super) shared_key: bool,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) allowed: Option<PathBuf>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) invite_secrets: Option<PathBuf>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) metrics: Option<SocketAddr>,
    #[serde(deserialize_with = "limits::time")]
    pub(super) drain: Duration,
    #[serde(deserialize_with = "coordinators")]
    pub(super) move_to: Vec<CoordinatorAddr>,
    pub(super) log: Log,
    pub(super) cluster: Cluster,
    pub(super) limits: Limits,
}

/// The table `[cluster]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Cluster {
    /// With passwords, perhaps.
    pub(super) nats: Vec<String>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) key: Option<PathBuf>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) credentials: Option<PathBuf>,
    #[serde(deserialize_with = "unless_empty")]
    pub(super) ca: Option<PathBuf>,
}

/// The table `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Log {
    pub(super) format: Format,
    level: Level,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Log {
    /// Returns what selects the lines of the server itself, and the errors of all else.
    pub(super) fn selection(self) -> String {
        let level = match self.level {
            Level::Off => return "off".to_owned(),
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let parts = ["coordinator", "cluster", "stun", "cli"];
        let parts = parts.map(|part| format!(",p2pconnect_{part}={level}"));
        format!("error{}", parts.concat())
    }
}

impl Settings {
    /// Returns where the key is, if not in the usual place, and who may read it.
    pub(super) fn key_file(&self) -> KeyFile {
        self.file_of(self.key.clone())
    }

    /// Returns where the key is whose place the other one has taken, if there is one.
    pub(super) fn former_key_file(&self) -> Option<KeyFile> {
        let path = self.former_key.clone()?;
        Some(self.file_of(Some(path)))
    }

    fn file_of(&self, path: Option<PathBuf>) -> KeyFile {
        KeyFile {
            path,
            readers: match self.shared_key {
                true => Readers::Others,
                false => Readers::Owner,
            },
        }
    }
}

/// Where the settings are read from.
#[derive(Debug, Default)]
pub(super) struct Sources {
    file: Option<PathBuf>,
    /// The variables that are set, by name.
    variables: Vec<(String, String)>,
    options: Vec<Given>,
}

impl Sources {
    /// Returns the sources of this process.
    pub(super) fn of(options: &args::Serve) -> Self {
        let named = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let named = named.filter(|name| name.starts_with(PREFIX) && name != FILE);
        let all = named.chain([KEY.to_owned()]);
        let variables = all.filter_map(|name| Some((name.clone(), environment::text(&name)?)));
        Self {
            file: options.config.clone().or_else(|| environment::path(FILE)),
            variables: variables.collect(),
            options: options.given(),
        }
    }

    /// Returns the value of the variable of a setting, and the name that it goes by.
    fn variable(&self, key: &str) -> Option<(&str, &str)> {
        let other = (key == "key").then_some(KEY);
        let names = [variable(key)].into_iter().chain(other.map(str::to_owned));
        let find = |name: String| self.variables.iter().find(|it| it.0 == name);
        names
            .filter_map(find)
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .next()
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Variable(String),
    Option(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => {
                write!(f, "{}, line {line}", escaped(&path.to_string_lossy()))
            }
            Self::Variable(name) => f.write_str(name),
            Self::Option(name) => f.write_str(name),
        }
    }
}

/// The value of a setting, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    /// The name, with those of the tables that it is in.
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

impl Setting {
    /// Returns the value as it may be shown: without passwords.
    pub(super) fn shown(&self) -> String {
        let text = self.value.to_string();
        match self.key.as_str() {
            "cluster.nats" => without_logins(&text),
            _ => text,
        }
    }
}

/// Puts stars in the place of what is in front of each host.
fn without_logins(text: &str) -> String {
    let hidden = text.split_inclusive(',').map(|url| {
        let Some((login, rest)) = url.rsplit_once('@') else {
            return url.to_owned();
        };
        let scheme = login.split_once("://").map(|it| it.0);
        let quote = login.find('"').map_or("", |at| &login[..=at]);
        let scheme = scheme.map_or_else(|| quote.to_owned(), |it| format!("{it}://"));
        format!("{scheme}***@{rest}")
    });
    hidden.collect()
}

/// All settings, and where each comes from.
#[derive(Debug, Clone)]
pub(super) struct Configuration {
    pub(super) settings: Settings,
    /// In the order of the example file.
    pub(super) all: Vec<Setting>,
    /// Variables that look like those of settings, and what each may be meant for.
    pub(super) unknown_variables: Vec<(String, String)>,
    table: Table,
}

impl Configuration {
    /// Reads all sources.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a value cannot be used; what is wrong is named with its place.
    pub(super) fn read(sources: &Sources) -> anyhow::Result<Self> {
        let mut read = Self::of_text(DEFAULTS)?;
        let known: Vec<_> = read.all.iter().map(|it| it.key.clone()).collect();
        if let Some(path) = &sources.file {
            read.take_file(path, &known)
                .with_context(|| escaped(&path.display().to_string()))?;
        }
        for key in &known {
            if let Some((name, text)) = sources.variable(key) {
                read.take_text(key, text, Origin::Variable(name.to_owned()))?;
            }
        }
        for Given { key, option, value } in &sources.options {
            read.set(Setting {
                key: (*key).to_owned(),
                value: value.clone(),
                origin: Origin::Option(option),
            })?;
        }
        let names: Vec<_> = known.iter().map(|key| variable(key)).collect();
        let others = sources.variables.iter().map(|it| &it.0);
        let others = others.filter(|it| *it != KEY && !names.contains(it));
        let near = |name: &String| {
            let nearest = document::nearest(name, names.iter().map(String::as_str));
            (name.clone(), nearest.to_owned())
        };
        read.unknown_variables = others.map(near).collect();
        Ok(read)
    }

    /// Reads the text of a file that has all settings.
    fn of_text(text: &str) -> anyhow::Result<Self> {
        let entries = document::entries(text, None)?.into_iter();
        let setting = |it: document::Entry| Setting {
            key: it.key,
            value: it.value,
            origin: Origin::Default,
        };
        let table: Table = toml::from_str(text)?;
        Ok(Self {
            settings: table.clone().try_into()?,
            all: entries.map(setting).collect(),
            unknown_variables: Vec::new(),
            table,
        })
    }

    fn take_file(&mut self, path: &Path, known: &[String]) -> anyhow::Result<()> {
        let text = read_text(path, MAX_BYTES)?;
        for document::Entry { key, line, value } in document::entries(&text, Some(known))? {
            let origin = Origin::File {
                path: path.to_owned(),
                line,
            };
            let setting = Setting { key, value, origin };
            self.set(setting).with_context(|| format!("line {line}"))?;
        }
        Ok(())
    }

    /// Takes a value as text, which is of the type that the setting has.
    fn take_text(&mut self, key: &str, text: &str, origin: Origin) -> anyhow::Result<()> {
        let before = self.all.iter().find(|it| it.key == key);
        let as_text = || Value::String(text.to_owned());
        let value = match before.map(|it| &it.value) {
            Some(Value::Array(_)) => {
                let items = text.split(',').map(|it| it.trim().into());
                Value::Array(items.collect())
            }
            Some(Value::Integer(_)) => text.parse().map_or_else(|_| as_text(), Value::Integer),
            Some(Value::Boolean(_)) => text.parse().map_or_else(|_| as_text(), Value::Boolean),
            Some(Value::String(_) | Value::Float(_) | Value::Datetime(_) | Value::Table(_))
            | None => as_text(),
        };
        let name = origin.to_string();
        let key = key.to_owned();
        self.set(Setting { key, value, origin }).context(name)
    }

    /// Puts a value in the place of the one before.
    fn set(&mut self, setting: Setting) -> anyhow::Result<()> {
        put(&mut self.table, &setting.key, setting.value.clone());
        let settings = self.table.clone().try_into();
        self.settings = settings.map_err(|error: toml::de::Error| {
            let (key, value) = (&setting.key, escaped(&setting.shown()));
            // What serde says of a value quotes it.
            let why = match key.as_str() {
                "cluster.nats" => "write a list of addresses",
                _ => error.message().trim_end(),
            };
            anyhow!("{key} = {value}: {}", escaped(why))
        })?;
        if let Some(before) = self.all.iter_mut().find(|it| it.key == setting.key) {
            *before = setting;
        }
        Ok(())
    }
}

/// Returns the name of the variable of a setting.
fn variable(key: &str) -> String {
    let name = key.replace(['.', '-'], "_").to_ascii_uppercase();
    format!("{PREFIX}{name}")
}

/// Puts a value into a table, or into one that is in it.
fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        Some((name, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(name) {
                put(inner, rest, value);
            }
        }
        None => drop(table.insert(key.to_owned(), value)),
    }
}

/// Reads a file of the operator's, which is not longer than such files are.
///
/// # Errors
///
/// What the system says, or that the file is longer, or no text.
pub(super) fn read_text(path: &Path, max_bytes: u64) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    let length = file.take(max_bytes + 1).read_to_string(&mut text)?;
    if length as u64 > max_bytes {
        bail!("the file has more than {} MiB", max_bytes >> 20);
    }
    Ok(text)
}

fn address<'de, D: Deserializer<'de>>(value: D) -> Result<SocketAddr, D::Error> {
    listen_address(&String::deserialize(value)?).map_err(D::Error::custom)
}

fn addresses<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(value)?;
    let read: Result<_, _> = texts.iter().map(|text| listen_address(text)).collect();
    read.map_err(D::Error::custom)
}

fn coordinators<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<CoordinatorAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(value)?;
    let read: Result<Vec<_>, _> = texts.iter().map(|text| text.trim().parse()).collect();
    let read = read.map_err(D::Error::custom)?;
    match read.len() {
        0..=MAX_PLACES => Ok(read),
        _ => Err(D::Error::custom(format!("name {MAX_PLACES} at most"))),
    }
}

/// Reads what is not set where the text is empty.
fn unless_empty<'de, D, T>(value: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(value)?;
    let text = text.trim();
    let read = (!text.is_empty()).then(|| text.parse());
    read.transpose().map_err(D::Error::custom)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests;
