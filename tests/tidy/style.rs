//! One hand in all files: how imports and comments are set, beyond what `cargo fmt` sees to.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::{ItemUse, UseTree, Visibility, visit::Visit};

use crate::{FOLDERS, root, rust_files};

/// How wide comments are, as code is (`.rustfmt.toml`).
const WIDTH: usize = 100;

/// What could be filled up to here and is not, twice in a row, is set for another width.
const NARROW: usize = 90;

/// Finds crates that a module imports from by more than one `use` of the same visibility.
#[derive(Default)]
struct Imports {
    seen: Vec<BTreeSet<String>>,
    twice: Vec<String>,
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_file(&mut self, file: &'ast syn::File) {
        self.within(|all| syn::visit::visit_file(all, file));
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.within(|all| syn::visit::visit_item_mod(all, module));
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.within(|all| syn::visit::visit_block(all, block));
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let UseTree::Path(path) = &item.tree else {
            return;
        };
        let first = &path.ident;
        let visibility = match &item.vis {
            Visibility::Public(_) => "pub".to_owned(),
            Visibility::Restricted(it) => format!(
                "{:?}",
                it.path.segments.first().map(|it| it.ident.to_string())
            ),
            Visibility::Inherited => String::new(),
        };
        let seen = self.seen.last_mut();
        // What is imported under a condition stands apart.
        if item.attrs.is_empty()
            && seen.is_some_and(|seen| !seen.insert(format!("{visibility} {first}")))
        {
            self.twice.push(first.to_string());
        }
    }
}

impl Imports {
    fn within(&mut self, visit: impl FnOnce(&mut Self)) {
        self.seen.push(BTreeSet::new());
        visit(self);
        self.seen.pop();
    }
}

fn all_files() -> impl Iterator<Item = (PathBuf, String)> {
    let files = FOLDERS.iter().flat_map(|it| rust_files(&root().join(it)));
    files.map(|file| (file.clone(), fs::read_to_string(file).unwrap()))
}

#[test]
fn a_module_names_each_crate_that_it_imports_from_once() {
    let faults = all_files().filter_map(|(file, text)| {
        let mut imports = Imports::default();
        imports.visit_file(&syn::parse_file(&text).unwrap());
        let twice = imports.twice.join(", ");
        (!twice.is_empty()).then(|| format!("{}: {twice}", file.display()))
    });
    let faults: Vec<_> = faults.collect();
    assert!(
        faults.is_empty(),
        "`use` names these twice: cargo fmt -- --config unstable_features=true,imports_granularity=Crate\n{}",
        faults.join("\n")
    );
}

/// Returns what a line is that is a comment: the kind, and the text.
fn comment(line: &str) -> Option<(&str, &str)> {
    let start = line.trim_start();
    let kind = ["//!", "///", "//"]
        .into_iter()
        .find(|it| start.starts_with(it))?;
    let text = &start[kind.len()..];
    Some((kind, text.strip_prefix(' ').unwrap_or(text)))
}

/// Tells whether a line of a comment is prose: no table, list, heading, code or drawing.
fn is_prose(text: &str) -> bool {
    let is_item = text
        .split_once(". ")
        .is_some_and(|(number, _)| number.parse::<u8>().is_ok());
    !is_item
        && text.starts_with(|it: char| it.is_alphanumeric() || "`[(\"".contains(it))
        && !text.contains("  ")
        && !text.starts_with("```")
}

/// Returns the lines of comments that are wider than they may be, or are set for another width.
fn misfits(file: &Path, text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    let mut faults = Vec::new();
    let mut narrow = 0;
    let mut is_code = false;
    for (number, line) in lines.iter().enumerate() {
        let at = |what: &str| format!("{}:{}: {what}", file.display(), number + 1);
        let Some((kind, text)) = comment(line) else {
            (narrow, is_code) = (0, false);
            continue;
        };
        is_code ^= text.starts_with("```");
        if is_code {
            narrow = 0;
            continue;
        }
        let width = line.chars().count();
        if width > WIDTH && text.contains(' ') && !text.starts_with(['|', '#']) {
            faults.push(at("too wide"));
        }
        let next = lines.get(number + 1).and_then(|it| comment(it));
        let next = next.filter(|(of, next)| *of == kind && is_prose(next) && is_prose(text));
        let first = next.and_then(|(_, next)| next.split(' ').next());
        match first {
            Some(word) if width + 1 + word.chars().count() <= NARROW => narrow += 1,
            _ => narrow = 0,
        }
        if narrow == 2 {
            faults.push(at("narrower than others"));
        }
    }
    faults
}

#[test]
fn comments_are_as_wide_as_code() {
    let faults: Vec<_> = all_files()
        .flat_map(|(file, text)| misfits(&file, &text))
        .collect();
    assert!(
        faults.is_empty(),
        "{WIDTH} columns, please:\n{}",
        faults.join("\n")
    );
}
