//! What a wrong command line may be meant for.

use clap::{
    Command, Error,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Puts what there is into an error in the place of guesses: all commands for one that there is
/// not, and the commands of an option that stands elsewhere.
pub(super) fn replace(mut error: Error, mut commands: Command) -> Error {
    commands.build();
    let tip = if error.kind() == ErrorKind::InvalidSubcommand {
        keep_near_commands(&mut error);
        Some(all(
            &commands,
            &text(&error, ContextKind::InvalidSubcommand),
        ))
    } else if error.kind() == ErrorKind::UnknownArgument {
        // No argument of these commands begins with a dash.
        error.remove(ContextKind::Suggested);
        belongs_elsewhere(&commands, &text(&error, ContextKind::InvalidArg))
    } else {
        None
    };
    if let Some(tip) = tip {
        let tips = ContextValue::StyledStrs(vec![StyledStr::from(tip)]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

fn text(error: &Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    }
}

/// Leaves only what begins as the word does: nobody means `listen` by `glisten`.
fn keep_near_commands(error: &mut Error) {
    let initial = text(error, ContextKind::InvalidSubcommand).chars().next();
    let Some(ContextValue::Strings(near)) = error.remove(ContextKind::SuggestedSubcommand) else {
        return;
    };
    let near = near.into_iter().filter(|it| it.chars().next() == initial);
    let near: Vec<_> = near.collect();
    if !near.is_empty() {
        error.insert(
            ContextKind::SuggestedSubcommand,
            ContextValue::Strings(near),
        );
    }
}

/// Returns a tip with all commands, or with the option that has the word for its name.
fn all(commands: &Command, word: &str) -> String {
    let mut options = commands.get_arguments().filter_map(|it| it.get_long());
    if options.any(|it| it == word) {
        return format!("there is an option '--{word}'");
    }
    let line = |command: &Command| {
        let about = command.get_about().map(StyledStr::to_string);
        format!(
            "\n    {:13}{}",
            command.get_name(),
            about.unwrap_or_default()
        )
    };
    let lines: Vec<_> = commands.get_subcommands().map(line).collect();
    format!("the commands are{}", lines.concat())
}

/// Returns a tip with the commands that have an option, if there are any.
fn belongs_elsewhere(commands: &Command, option: &str) -> Option<String> {
    let is_it = |it: &clap::Arg| match option.strip_prefix("--") {
        Some(long) => it.get_long() == Some(long),
        None => it
            .get_short()
            .is_some_and(|short| option == format!("-{short}")),
    };
    let having = commands
        .get_subcommands()
        .filter(|it| it.get_arguments().any(is_it));
    let having: Vec<_> = having
        .map(|it| format!("`{} {}`", commands.get_name(), it.get_name()))
        .collect();
    (!having.is_empty()).then(|| format!("'{option}' belongs behind {}", having.join(" or ")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::args::Cli;

    fn told(words: &str) -> String {
        let words = format!("p2pconnect {words}");
        let error = Cli::try_parse_from(words.split(' ')).unwrap_err();
        replace(error, Cli::command()).to_string()
    }

    #[test]
    fn who_looks_for_a_command_sees_all() {
        for word in ["stun", "coordinator", "conect", "help me", "lisen"] {
            let told = told(word);
            for command in [
                "serve        Run a coordinator",
                "dial         Connect to a peer",
            ] {
                assert!(told.contains(command), "{told}");
            }
            let is_near = ["lisen", "stun"].contains(&word);
            assert_eq!(told.contains("similar"), is_near, "{told}");
        }
        let told = told("version");
        assert!(told.contains("there is an option '--version'"), "{told}");
    }

    #[test]
    fn an_option_in_the_wrong_place_leads_to_its_command() {
        for (words, tip) in [
            (
                "dial --forward localhost:22",
                "'--forward' belongs behind `p2pconnect listen`",
            ),
            (
                "--json dial",
                "'--json' belongs behind `p2pconnect listen` or `p2pconnect dial`",
            ),
            ("id -q", "'-q' belongs behind `p2pconnect listen` or"),
            ("serve --coordinator=x", "'--coordinator' belongs behind"),
            ("dial --wiat", "a similar argument exists: '--wait'"),
        ] {
            let told = told(words);
            assert!(told.contains(tip), "{told}");
            assert_eq!(told.matches("tip:").count(), 1, "{told}");
        }
        assert!(!told("dial --nonsense").contains("tip:"));
    }
}
