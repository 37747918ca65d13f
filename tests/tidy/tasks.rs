//! The tasks of an endpoint: each has an owner, and `ARCHITECTURE.md` has a picture of them all.

use std::fs;

use crate::{root, rust_files};

/// Returns the code of the library's files, without their tests, by the files' names.
fn library() -> Vec<(String, String)> {
    let files = rust_files(&root().join("crates/p2pconnect/src"));
    let code = files.into_iter().filter_map(|file| {
        let name = file.file_name()?.to_str()?.to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("mod tests {").next()?.to_owned();
        let is_test = file.components().any(|it| it.as_os_str() == "tests") || name == "tests.rs";
        (!is_test).then_some((name, code))
    });
    code.collect()
}

#[test]
fn the_picture_of_tasks_names_every_file_that_begins_one() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, rest) = text.split_once("#### Tasks and channels\n").unwrap();
    let (picture, _) = rest.split_once("**Invariant:**").unwrap();
    let words: Vec<_> = picture.split([' ', '\n', ',', '`']).collect();
    let beginning = library()
        .into_iter()
        .filter(|(_, code)| code.contains("spawn("));
    let names: Vec<_> = beginning.map(|(name, _)| name).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(
            words.contains(&name.as_str()),
            "the picture of tasks lacks {name}"
        );
    }
}

#[test]
fn no_task_is_without_an_owner_and_no_channel_without_a_bound() {
    for (name, code) in library() {
        assert!(!code.contains("unbounded"), "{name}");
        assert_eq!(code.contains("tokio::spawn("), name == "task.rs", "{name}");
    }
}
