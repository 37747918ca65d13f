//! Presets against what they say of themselves.

use std::{collections::BTreeSet, mem::discriminant, net::IpAddr};

use super::*;
use crate::model::{
    NatModel,
    UnsolicitedSyn::{Nothing, Rst},
};

#[test]
fn names_are_unique_and_fit_for_a_command_line() {
    let names: BTreeSet<_> = all().iter().map(|preset| preset.name).collect();
    assert_eq!(names.len(), all().len());
    assert!(names.len() >= 16);
    for name in names {
        let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        assert!(name.chars().all(|letter| fits(letter) || letter == '-'));
        assert_eq!(find(name).map(|preset| preset.name), Ok(name));
    }
}

#[test]
fn every_box_can_be_built() {
    let external: IpAddr = [203, 0, 113, 1].into();
    for preset in all() {
        for spec in preset.specs() {
            let nat = NatModel::new(spec, vec![external], 1);
            assert!(nat.is_ok(), "{}: {nat:?}", preset.name);
        }
    }
}

#[test]
fn every_fact_holds_for_its_box() {
    for preset in all() {
        for layer in preset.layers {
            let spec = layer.spec();
            for fact in layer.facts() {
                let said = (preset.name, fact.behaviour);
                assert!(fact.behaviour.holds(&spec), "{said:?}");
            }
        }
    }
}

#[test]
fn no_box_has_two_facts_about_one_behaviour() {
    for preset in all() {
        for layer in preset.layers {
            let facts: Vec<_> = layer.facts().collect();
            for (index, fact) in facts.iter().enumerate() {
                let field = discriminant(&fact.behaviour);
                let again = facts[..index]
                    .iter()
                    .any(|other| discriminant(&other.behaviour) == field);
                assert!(!again, "{}: {:?}", preset.name, fact.behaviour);
            }
        }
    }
}

#[test]
fn every_source_says_something() {
    for fact in all().iter().flat_map(Preset::facts) {
        let is_complete = match fact.source {
            Source::Rfc(section) => section.starts_with("RFC "),
            Source::Document { title, url } => !title.is_empty() && url.starts_with("https://"),
            Source::Measured(how) => !how.is_empty(),
            Source::Assumed(why) => !why.is_empty(),
        };
        assert!(is_complete, "{fact:?}");
        assert!(!fact.behaviour.to_string().is_empty());
    }
}

#[test]
fn boxes_of_one_kind_differ_as_their_names_say() {
    let spec = |name: &str| find(name).map(Preset::specs).unwrap_or_default();
    let open = |name: &str| spec(name).first().map(|spec| spec.unsolicited);
    assert_eq!(open("linux-router"), Some(Nothing));
    assert_eq!(open("linux-masquerade"), Some(Rst));
    assert_eq!(open("openwrt"), Some(Rst));
    assert_eq!(spec("public"), []);
    assert_eq!(spec("home-behind-cgnat").len(), 2);
    assert_eq!(
        spec("home-behind-cgnat")[0],
        spec("linux-router")[0],
        "the inner box comes first"
    );
}

#[test]
fn an_unknown_name_is_answered_with_near_ones() {
    let near = |name: &str| find(name).map_err(|unknown| unknown.near);
    assert_eq!(near("open-wrt"), Err(vec!["openwrt"]));
    assert_eq!(near("pff"), Err(vec!["pf"]));
    assert_eq!(near("gcp"), Err(vec!["gcp-cloud-nat", "gcp-cloud-nat-eim"]));
    assert_eq!(near("fritzbox"), Err(vec![]));
    let message = |name: &str| find(name).map_err(|unknown| unknown.to_string());
    assert_eq!(
        message("cgnat-strikt"),
        Err(r#"there is no preset "cgnat-strikt"; did you mean cgnat-strict?"#.to_owned())
    );
    assert_eq!(
        message(""),
        Err(r#"there is no preset """#.to_owned()),
        "an empty name is near nothing worth a suggestion"
    );
}
