//! What functions take: no anonymous tuples, whose parts a caller could confuse. A type with named
//! fields says what each part is.

use std::fs;

use syn::{FnArg, Pat, Signature, Type, visit::Visit};

use crate::{FOLDERS, root, rust_files};

/// The names of functions that have an anonymous tuple among their parameters.
#[derive(Default)]
struct TakesTuple(Vec<String>);

impl<'ast> Visit<'ast> for TakesTuple {
    fn visit_signature(&mut self, signature: &'ast Signature) {
        let is_tuple = |it: &FnArg| match it {
            FnArg::Receiver(_) => false,
            FnArg::Typed(it) => is_tuple_pattern(&it.pat) || is_tuple_type(&it.ty),
        };
        if signature.inputs.iter().any(is_tuple) {
            self.0.push(signature.ident.to_string());
        }
        syn::visit::visit_signature(self, signature);
    }
}

fn is_tuple_pattern(pattern: &Pat) -> bool {
    match pattern {
        Pat::Tuple(it) => !it.elems.is_empty(),
        Pat::Reference(it) => is_tuple_pattern(&it.pat),
        _ => false,
    }
}

fn is_tuple_type(of: &Type) -> bool {
    match of {
        Type::Tuple(it) => !it.elems.is_empty(),
        Type::Reference(it) => is_tuple_type(&it.elem),
        _ => false,
    }
}

fn takes_tuple(source: &str) -> Vec<String> {
    let mut found = TakesTuple::default();
    found.visit_file(&syn::parse_file(source).unwrap());
    found.0
}

#[test]
fn no_function_takes_an_anonymous_tuple() {
    let files: Vec<_> = FOLDERS
        .iter()
        .flat_map(|it| rust_files(&root().join(it)))
        .collect();
    let found: Vec<_> = files
        .iter()
        .flat_map(|file| {
            let functions = takes_tuple(&fs::read_to_string(file).unwrap());
            let named = move |it| format!("{} in {}", it, file.display());
            functions.into_iter().map(named)
        })
        .collect();
    assert!(
        found.is_empty(),
        "give these a type with named fields:\n{}",
        found.join("\n")
    );
}

#[test]
fn an_anonymous_tuple_is_found() {
    let taken = "trait T { fn a((x, y): (u8, u8)); } impl S { fn b(&self, it: &(u8, u8)) {} fn c(&(x, _): &Alias) {} }";
    assert_eq!(takes_tuple(taken), ["a", "b", "c"]);
    let fine = "fn d(it: (), [x, y]: [u8; 2], all: &[(u8, u8)]) { [(1, 2)].map(|(x, y)| x + y); }";
    assert_eq!(takes_tuple(fine), Vec::<String>::new());
}
