//! The commands that documents tell their readers to type.
//!
//! A document is Markdown, or the help text of a command. A test runs what it finds here, so that
//! no reader is the first to try.

/// A command, and what the document says that it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documented {
    /// What a reader types, as one line.
    pub command: String,
    /// The lines after it, up to the next command.
    pub output: Vec<String>,
}

/// Returns the commands in the fenced blocks of a Markdown text: the lines that begin with `$`, or
/// all lines of a block without any, if the first word of the block is one of these programs.
pub fn in_blocks(markdown: &str, programs: &[&str]) -> Vec<Documented> {
    let fenced = markdown.split("\n```").skip(1).step_by(2);
    // A block whose fence names a language is not for a shell.
    let blocks = fenced.filter_map(|block| block.strip_prefix('\n'));
    blocks.flat_map(|block| in_block(block, programs)).collect()
}

fn in_block(block: &str, programs: &[&str]) -> Vec<Documented> {
    let prompted = block.lines().any(|line| line.starts_with("$ "));
    if !prompted && !starts_with_one_of(block, programs) {
        return Vec::new();
    }
    let mut found: Vec<Documented> = Vec::new();
    let mut continues = false;
    for line in block.lines() {
        let begins = if prompted {
            line.strip_prefix("$ ")
        } else {
            Some(line)
        };
        match (continues, begins, found.last_mut()) {
            (true, _, Some(last)) => extend(&mut last.command, line),
            (_, Some(command), _) => found.push(Documented {
                command: command.trim_end_matches('\\').trim_end().to_owned(),
                output: Vec::new(),
            }),
            (_, None, Some(last)) => last.output.push(line.to_owned()),
            (_, None, None) => panic!("output of no command: {line}"),
        }
        continues = line.ends_with('\\');
    }
    found
}

/// Returns the commands in the code spans of a Markdown text that begin with one of these programs.
pub fn in_spans(markdown: &str, programs: &[&str]) -> Vec<String> {
    let outside: Vec<_> = markdown.split("\n```").step_by(2).collect();
    let spans = outside
        .iter()
        .flat_map(|text| text.split('`').skip(1).step_by(2));
    let commands = spans.filter(|span| starts_with_one_of(span, programs));
    commands.map(|span| words(span).join(" ")).collect()
}

/// Returns the commands that a help text gives as examples: after the word, those that begin with
/// the program. Two spaces end a command, as remarks stand in a column of their own.
pub fn in_help(help: &str, program: &str) -> Vec<String> {
    let Some((_, examples)) = help.split_once("Example") else {
        return Vec::new();
    };
    let (_, examples) = examples.split_once(':').expect("\"Example\" has a colon");
    let mut found: Vec<String> = Vec::new();
    let mut continues = false;
    for line in examples.lines() {
        let text = line.trim();
        match found.last_mut() {
            Some(last) if continues => extend(last, text),
            _ if starts_with_one_of(text, &[program]) => {
                let command = text.split("  ").next().unwrap_or(text);
                found.push(command.trim_end_matches('\\').trim_end().to_owned());
            }
            _ => {}
        }
        continues = text.ends_with('\\');
    }
    found
}

fn extend(command: &mut String, line: &str) {
    command.push(' ');
    command.push_str(line.trim().trim_end_matches('\\').trim_end());
}

/// Tells whether the first word is one of these programs, behind variables that are set for it.
fn starts_with_one_of(text: &str, programs: &[&str]) -> bool {
    let is_variable =
        |word: &&str| word.starts_with(|it: char| it.is_ascii_uppercase()) && word.contains('=');
    let first = text.split_whitespace().find(|word| !is_variable(word));
    first.is_some_and(|first| programs.contains(&first))
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}
