//! Walks through XML that a stranger wrote, in work and memory that its length bounds.
//!
//! Names are told without their prefixes and namespaces, and attributes are not looked at: nothing
//! that UPnP asks for is in either. No entity is known but those of XML itself.

use quick_xml::{
    Reader,
    errors::Error,
    escape::resolve_predefined_entity,
    events::{BytesRef, Event},
};

/// How deep elements may be in each other. A service of a router is in nine.
const MAX_DEPTH: usize = 32;

/// The most elements. Descriptions of routers have some hundred.
const MAX_ELEMENTS: usize = 4000;

/// The most text of an element that is kept, in bytes: more than any address or path needs.
const MAX_TEXT: usize = 1024;

/// Why XML is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum XmlError {
    /// It is no XML.
    #[error("it is no XML: {0}")]
    Malformed(#[from] Error),
    /// It ends within an element, or has none.
    #[error("it is cut off")]
    Incomplete,
    /// It has more elements, or deeper ones, than any router needs.
    #[error("it has too many elements")]
    TooMany,
}

/// What is met on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met<'a> {
    /// An element begins.
    Start { name: &'a str },
    /// An element ends. The text is what stands in it behind its last child.
    End { name: &'a str, text: &'a str },
}

/// Visits the beginning and the end of each element, in order.
pub(super) fn walk(xml: &str, mut visit: impl FnMut(Met<'_>)) -> Result<(), XmlError> {
    let mut reader = Reader::from_str(xml);
    let mut text = String::new();
    let (mut depth, mut elements) = (0_usize, 0_usize);
    loop {
        match reader.read_event()? {
            Event::Start(start) => {
                depth += 1;
                elements += 1;
                if depth > MAX_DEPTH || elements > MAX_ELEMENTS {
                    return Err(XmlError::TooMany);
                }
                text.clear();
                let name = start.local_name().into_inner();
                visit(Met::Start { name });
            }
            Event::Empty(empty) => {
                elements += 1;
                if elements > MAX_ELEMENTS {
                    return Err(XmlError::TooMany);
                }
                text.clear();
                let name = empty.local_name().into_inner();
                visit(Met::Start { name });
                visit(Met::End { name, text: "" });
            }
            Event::End(end) => {
                // The reader lets no element end that has not begun.
                depth = depth.saturating_sub(1);
                let name = end.local_name().into_inner();
                let text_of = text.trim();
                visit(Met::End {
                    name,
                    text: text_of,
                });
                text.clear();
            }
            Event::Text(more) => push(&mut text, &more),
            Event::CData(more) => push(&mut text, &more),
            Event::GeneralRef(reference) => push(&mut text, &resolved(&reference)),
            Event::Eof if depth == 0 && elements > 0 => return Ok(()),
            Event::Eof => return Err(XmlError::Incomplete),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// Keeps more of a text, as far as there is room.
fn push(text: &mut String, more: &str) {
    let room = MAX_TEXT.saturating_sub(text.len());
    text.push_str(&more[..more.floor_char_boundary(room)]);
}

/// Returns what a reference stands for; nothing for what only a document type would say.
fn resolved(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.into();
    }
    resolve_predefined_entity(reference)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(xml: &str) -> Result<Vec<(String, String)>, XmlError> {
        let mut ends = Vec::new();
        walk(xml, |met| {
            if let Met::End { name, text } = met {
                ends.push((name.to_owned(), text.to_owned()));
            }
        })?;
        Ok(ends)
    }

    #[test]
    fn names_have_no_prefix_and_texts_no_references() {
        let xml = "\u{feff}<?xml version='1.0'?><!DOCTYPE r [<!ENTITY e 'x'>]><s:r xmlns:s='u'>\
                   <!-- no --><a b='&lt;'> 1 &lt;&#50;&e;<![CDATA[<3]]> </a><c/></s:r>";
        let expected = [("a", "1 <2<3"), ("c", ""), ("r", "")];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(told(xml).ok(), Some(expected.to_vec()));
    }

    #[test]
    fn what_is_no_whole_document_is_refused() {
        for xml in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "</a>",
            "<a",
            "<a><!--",
            "<a>&b</a>",
        ] {
            assert!(told(xml).is_err(), "{xml}");
        }
    }

    #[test]
    fn no_document_is_deep_or_has_many_elements() {
        let deep = "<a>".repeat(MAX_DEPTH + 1);
        assert!(matches!(told(&deep), Err(XmlError::TooMany)));
        let many = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
        assert!(matches!(told(&many), Err(XmlError::TooMany)));
        let long = format!("<a>{}</a>", "é".repeat(MAX_TEXT));
        let kept = told(&long).map(|ends| ends[0].1.len()).ok();
        assert_eq!(kept, Some(MAX_TEXT));
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_panics(
            parts in prop::collection::vec(
                prop_oneof![
                    "\\PC{0,8}",
                    prop::sample::select(vec![
                        "<a>", "</a>", "<b/>", "<x:y z='1'>", "</x:y>", "<!--", "-->", "<![CDATA[",
                        "]]>", "&amp;", "&#0;", "&#x110000;", "&z;", "<?", "?>", "<!DOCTYPE", "<", ">",
                    ]).prop_map(str::to_owned),
                ],
                0..60,
            )
        ) {
            let xml = parts.concat();
            let mut visited = 0;
            // Whether it can be read is no matter here.
            drop(walk(&xml, |met| {
                visited += 1;
                if let Met::End { text, .. } = met {
                    assert!(text.len() <= MAX_TEXT);
                }
            }));
            prop_assert!(visited <= xml.len());
        }
    }
}
