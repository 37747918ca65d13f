//! What imports what: in no crate, and in no room of one, do modules import each other in a circle.
//!
//! Modules are compared with those beside them, each with all that is inside. So a module and what
//! is inside it may import each other, as they are one subject; two rooms may not, whatever files
//! do it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, ItemUse, UseTree, Visibility, visit::Visit};

/// The path of a module within its crate; that of the crate itself is empty.
type Module = Vec<String>;

/// All modules of a crate, and what they import.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    modules: BTreeSet<Module>,
    /// What is named in which module.
    named: Vec<Named>,
    /// From which module which path, counted from the crate.
    imports: BTreeSet<(Module, Vec<String>)>,
    /// What modules make known of others under a name of their own.
    exports: BTreeMap<Vec<String>, Vec<String>>,
}

/// A path in a module, and the name under which the module makes it known to others.
#[derive(Debug)]
struct Named {
    module: Module,
    path: Vec<String>,
    export: Option<String>,
}

impl Crate {
    /// Reads a crate from its root file. Tests are left out, and what only documentation needs.
    pub(crate) fn read(root: &Path) -> Self {
        let mut all = Self::default();
        let beside = root.parent().unwrap();
        all.read_file(root, beside, &Module::new());
        for Named {
            module,
            path,
            export,
        } in std::mem::take(&mut all.named)
        {
            let Some(target) = all.absolute(&module, &path) else {
                continue;
            };
            if let Some(name) = export {
                let export = [&module[..], &[name]].concat();
                all.exports.insert(export, target.clone());
            }
            all.imports.insert((module, target));
        }
        all
    }

    fn read_file(&mut self, file: &Path, inside: &Path, module: &Module) {
        let source = fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&source).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        self.modules.insert(module.clone());
        self.read_items(&parsed.items, inside, module);
    }

    fn read_items(&mut self, items: &[Item], inside: &Path, module: &Module) {
        for item in items {
            match item {
                Item::Mod(it) if !is_left_out(&it.attrs) => {
                    let name = it.ident.to_string();
                    let child = [&module[..], std::slice::from_ref(&name)].concat();
                    if let Some((_, items)) = &it.content {
                        self.modules.insert(child.clone());
                        self.read_items(items, &inside.join(&name), &child);
                    } else if let Some(file) = file_of(inside, &name) {
                        self.read_file(&file, &inside.join(&name), &child);
                    }
                }
                Item::Mod(_) => {}
                Item::Use(it) if !is_left_out(&it.attrs) => self.read_use(it, module),
                Item::Use(_) => {}
                other => {
                    let mut paths = Paths::default();
                    paths.visit_item(other);
                    for path in paths.0 {
                        self.name(module, path, None);
                    }
                }
            }
        }
    }

    fn read_use(&mut self, item: &ItemUse, module: &Module) {
        let is_export = !matches!(item.vis, Visibility::Inherited);
        for (path, name) in leaves(&item.tree, &[]) {
            self.name(module, path, name.filter(|_| is_export));
        }
    }

    fn name(&mut self, module: &Module, path: Vec<String>, export: Option<String>) {
        let module = module.clone();
        self.named.push(Named {
            module,
            path,
            export,
        });
    }

    /// Returns a path from the crate, if it begins there or at a module of it.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let mut base = module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|it| it == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child => {
                let child = [&module[..], &[child.to_owned()]].concat();
                if !self.modules.contains(&child) {
                    return None;
                }
            }
        }
        Some([&base[..], rest].concat())
    }

    /// Returns the module that something is in, wherever it is made known.
    fn home_of(&self, path: &[String]) -> Module {
        let mut path = path.to_vec();
        // As often as names may lead on.
        for _ in 0..8 {
            let exported = (1..=path.len()).rev().find_map(|len| {
                let target = self.exports.get(&path[..len])?;
                Some([&target[..], &path[len..]].concat())
            });
            match exported {
                Some(target) if target != path => path = target,
                Some(_) | None => break,
            }
        }
        let lengths = (0..=path.len()).rev();
        let mut known = lengths.map(|len| path[..len].to_vec());
        known.find(|it| self.modules.contains(it)).unwrap()
    }

    /// Returns which modules import each other in a circle, beside each other inside the one that
    /// is named first.
    pub(crate) fn circles(&self) -> Vec<String> {
        let named = |(room, graph): (&Module, _)| {
            let circle = circle(graph)?;
            Some(format!("in {:?}: {circle:#?}", room.join("::")))
        };
        self.rooms().iter().filter_map(named).collect()
    }

    /// Returns which of the crate's rooms import one that stands on a higher floor, or on none. The
    /// highest floor is named first.
    pub(crate) fn climbs(&self, floors: &[&str]) -> Vec<String> {
        let floor = |room: &str| floors.iter().position(|it| *it == room);
        let rooms = self.rooms();
        let imports = rooms.get(&Module::new()).into_iter().flatten();
        let each = imports.flat_map(|(from, all)| all.iter().map(move |(to, why)| (from, to, why)));
        let climbs = |(from, to, _): &(&String, &String, &String)| match (floor(from), floor(to)) {
            (Some(from), Some(to)) => from >= to,
            (None, _) | (_, None) => true,
        };
        let climbing = each.filter(climbs);
        climbing
            .map(|(from, to, why)| format!("{from} to {to}: {why}"))
            .collect()
    }

    /// Returns, for each module, which of those right inside it import which, and an example.
    fn rooms(&self) -> BTreeMap<Module, BTreeMap<String, BTreeMap<String, String>>> {
        let mut rooms: BTreeMap<Module, BTreeMap<String, BTreeMap<String, String>>> =
            BTreeMap::new();
        for (from, path) in &self.imports {
            let to = self.home_of(path);
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(one), Some(other)) = (from.get(shared), to.get(shared)) {
                let room = rooms.entry(from[..shared].to_vec()).or_default();
                let why = format!("{} imports {}", from.join("::"), path.join("::"));
                let imported = room.entry(one.clone()).or_default();
                imported.entry(other.clone()).or_insert(why);
            }
        }
        rooms
    }
}

/// Returns a file that the declaration of a module means.
fn file_of(inside: &Path, name: &str) -> Option<PathBuf> {
    let files = [
        inside.join(format!("{name}.rs")),
        inside.join(name).join("mod.rs"),
    ];
    files.into_iter().find(|it| it.exists())
}

pub(crate) fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| {
        it.path().is_ident("cfg")
            && it.meta.require_list().is_ok_and(|list| {
                let condition = list.tokens.to_string();
                condition == "test" || condition == "doc"
            })
    })
}

/// Returns the paths of a use declaration, and the names that it gives them.
pub(crate) fn leaves(tree: &UseTree, before: &[String]) -> Vec<(Vec<String>, Option<String>)> {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(it) => leaves(&it.tree, &with(&it.ident)),
        UseTree::Name(it) if it.ident == "self" => {
            vec![(before.to_vec(), before.last().cloned())]
        }
        UseTree::Name(it) => vec![(with(&it.ident), Some(it.ident.to_string()))],
        UseTree::Rename(it) => vec![(with(&it.ident), Some(it.rename.to_string()))],
        UseTree::Glob(_) => vec![(before.to_vec(), None)],
        UseTree::Group(it) => it.items.iter().flat_map(|it| leaves(it, before)).collect(),
    }
}

/// The paths in code that begin at the crate.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|it| it.ident.to_string());
        self.0.push(segments.collect());
        syn::visit::visit_path(self, path);
    }
}

/// Returns a circle, if there is one, by why each imports the next.
fn circle(graph: &BTreeMap<String, BTreeMap<String, String>>) -> Option<Vec<String>> {
    graph.keys().find_map(|start| way_back(graph, start))
}

/// Returns the shortest way from a module back to it.
fn way_back(
    graph: &BTreeMap<String, BTreeMap<String, String>>,
    start: &String,
) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![(start, Vec::new())];
    while !ways.is_empty() {
        let mut next = Vec::new();
        for (at, way) in ways {
            for (to, why) in graph.get(at).into_iter().flatten() {
                let way = [&way[..], std::slice::from_ref(why)].concat();
                if to == start {
                    return Some(way);
                }
                if seen.insert(to) {
                    next.push((to, way));
                }
            }
        }
        ways = next;
    }
    None
}

#[test]
fn a_circle_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("lib.rs", "mod a; mod b; mod c; pub use b::inner::Thing;");
    write("a.rs", "use crate::c::Other; fn it() { crate::c::go(); }");
    write("b.rs", "mod inner; struct Outer;");
    write(
        "b/inner.rs",
        "use super::Outer; use crate::a; pub struct Thing;",
    );
    let circles = || Crate::read(&directory.path().join("lib.rs")).circles();
    write("c.rs", "#[cfg(test)] mod tests { use crate::Thing; }");
    assert_eq!(circles(), Vec::<String>::new());
    // By way of what the crate makes known.
    write("c.rs", "fn go(_: crate::Thing) {}");
    let found = circles();
    assert_eq!(found.len(), 1, "{found:?}");
    for why in [
        "a imports c::Other",
        "b::inner imports a",
        "c imports Thing",
    ] {
        assert!(found[0].contains(why), "{found:?}");
    }
}
