//! Who has issued a certificate of somebody else, as its issuer says.
//!
//! A name (RFC 5280 section 4.1.2.4) is a list of sets of attributes, in DER.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The object identifiers of an organization's name and of a common name (RFC 5280 appendix A.1).
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// A text in UTF-16; all others are taken for UTF-8, of which ASCII is a part.
const BMP_STRING: u8 = 0x1e;

/// Returns the organization and the common name of whoever has issued a certificate. They may hold
/// anything, such as control characters. `None` if it cannot be read, or names nobody.
#[must_use]
pub fn issuer_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let mut sets = parsed.issuer();
    let (mut organization, mut name) = (None, None);
    while let Some(mut set) = expect(&mut sets, SET) {
        while let Some(mut attribute) = expect(&mut set, SEQUENCE) {
            let kind = expect(&mut attribute, OBJECT_IDENTIFIER)?;
            let text = element(&mut attribute).map(|(tag, text)| self::text(tag, text));
            if kind == ORGANIZATION {
                organization = text;
            } else if kind == COMMON_NAME {
                name = text;
            }
        }
    }
    match (organization, name) {
        (Some(organization), Some(name)) if organization != name => {
            Some(format!("{organization}, {name}"))
        }
        (Some(one), _) | (None, Some(one)) => Some(one),
        (None, None) => None,
    }
}

fn text(tag: u8, bytes: &[u8]) -> String {
    if tag != BMP_STRING {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let (units, _) = bytes.as_chunks();
    let units: Vec<_> = units.iter().map(|it| u16::from_be_bytes(*it)).collect();
    String::from_utf16_lossy(&units)
}

/// Takes the next element, if it has this tag.
fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, body) = element(input)?;
    (found == tag).then_some(body)
}

/// Takes the next element, and returns its tag and what is in it.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (tag, rest) = input.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let (body, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((*tag, body))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn issued_by(names: &[(DnType, &str)]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        issuer_of(certificate.der())
    }

    #[test]
    fn an_issuer_is_told_by_its_names() {
        let [organization, name] = [DnType::OrganizationName, DnType::CommonName];
        let long = "x".repeat(200);
        for (names, told) in [
            (
                vec![(organization.clone(), "Corp"), (name.clone(), "CA 1")],
                "Corp, CA 1",
            ),
            (
                vec![(name.clone(), "Corp"), (organization.clone(), "Corp")],
                "Corp",
            ),
            (vec![(name.clone(), &long)], &long),
        ] {
            assert_eq!(issued_by(&names).as_deref(), Some(told));
        }
        assert_eq!(issued_by(&[]), None);
        assert_eq!(issued_by(&[(DnType::LocalityName, "here")]), None);
    }

    #[test]
    fn what_is_cut_short_is_no_name() {
        assert_eq!(element(&mut &[SEQUENCE][..]), None);
        assert_eq!(element(&mut &[SEQUENCE, 0x82, 1][..]), None);
        assert_eq!(element(&mut &[SEQUENCE, 3, 1][..]), None);
        assert_eq!(element(&mut &[SEQUENCE, 0x84, 0, 0, 0, 0][..]), None);
        assert_eq!(text(BMP_STRING, &[0, b'o', 0, b'k', 1]), "ok");
    }
}
