//! What is known while something is tried again and again.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use p2pconnect::{NatFiltering, NatReport, PeerId, Status, Verdict};

use crate::evidence;

/// What people have been told, and what is known of this machine and its peer.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) told: BTreeSet<String>,
    /// Whether something has been tried in vain before.
    pub(super) is_repeated: bool,
    /// Whether a peer that is dialled has said that it has no room.
    pub(super) is_peer_busy: bool,
    /// Whether the coordinator has refused a dial for now.
    pub(super) is_refused: bool,
    /// Whether any address of this machine is seen as another one, once one is seen.
    is_translated: Option<bool>,
    /// The failure that people were told last.
    last_failure: Option<Failure>,
}

/// Why a peer that was introduced could not be connected to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) peer: PeerId,
    pub(super) verdict: Verdict,
    pub(super) at: Instant,
}

impl Failure {
    /// Tells whether whoever has read of `other` learns nothing new.
    fn is_like(&self, other: &Self) -> bool {
        let is_recent = self.at.saturating_duration_since(other.at) < REMEMBERED;
        (self.peer, self.verdict) == (other.peer, other.verdict) && is_recent
    }
}

/// For how long a failure of the same kind is not explained again: a dial fails several times
/// within it.
const REMEMBERED: Duration = Duration::from_secs(60);

impl Facts {
    /// Notes what people are told, and tells whether they learn anything new. A number that
    /// differs, as that of the seconds for which a peer has been silent, makes nothing new.
    pub(super) fn is_news(&mut self, text: &str) -> bool {
        self.told
            .insert(text.replace(|c: char| c.is_ascii_digit(), ""))
    }

    /// Notes a failure, and tells whether the last one was like it.
    pub(super) fn is_like_the_last(&mut self, failure: Failure) -> bool {
        let last = self.last_failure.replace(failure);
        last.is_some_and(|it| failure.is_like(&it))
    }

    /// Takes in what happens.
    pub(super) fn note(&mut self, status: &Status) {
        let is_other = match status {
            Status::Mapped { local, mapped, .. } => local != mapped,
            Status::MappingChanged { local, new, .. } => local != new,
            Status::PeerBusy { .. } => {
                self.is_peer_busy = true;
                return;
            }
            Status::DialRefused { .. } => {
                self.is_refused = true;
                return;
            }
            _ => return,
        };
        self.is_translated = Some(is_other || self.is_translated == Some(true));
    }

    /// Says what is in front of this machine: a NAT, or where its addresses stay as they are, a
    /// firewall at most.
    pub(super) fn what_is_here(&self, report: &NatReport) -> String {
        if self.is_translated != Some(false) {
            return format!("the NAT here: {}", evidence::nat_in_words(report));
        }
        match (report.filtering, report.unsolicited) {
            (Some(NatFiltering::EndpointIndependent), None) => {
                "there is no NAT here, and nothing is filtered".to_owned()
            }
            // A STUN server with one address cannot tell whether addresses make a difference: that
            // is assumed.
            (None | Some(NatFiltering::AddressDependent), None) => {
                "there is no NAT here".to_owned()
            }
            (Some(NatFiltering::AddressAndPortDependent), _) | (_, Some(_)) => format!(
                "there is no NAT here; the firewall here: {}",
                evidence::filtering_in_words(report)
            ),
        }
    }
}

/// Returns what a status tells of where this machine is, if it does. Ports are no part of that:
/// each attempt has others.
pub(super) fn fact(status: &Status) -> Option<String> {
    match status {
        Status::Mapped { local, mapped, .. } => Some(format!("{} is {}", local.ip(), mapped.ip())),
        Status::PortMapped {
            external, protocol, ..
        } => Some(format!("{} by {protocol}", external.ip())),
        Status::NatFound { report } => Some(evidence::nat_in_words(report)),
        Status::FirewallBans { server } => Some(format!("{server} is banned")),
        _ => None,
    }
}

/// Says who intercepts the TLS of the web that is around a WebSocket.
pub(super) fn intercepted(issuer: &str) -> String {
    format!(
        "note: TLS to the coordinator's web server has a certificate issued by {issuer}, which is no public \
         authority; what is said inside stays secret"
    )
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use p2pconnect::{DialError, UnsolicitedSyn};

    use super::*;

    #[test]
    fn where_no_address_is_translated_there_is_no_nat() {
        let local = SocketAddr::from(([203, 0, 113, 7], 5));
        let report = NatReport {
            filtering: Some(NatFiltering::AddressAndPortDependent),
            ..NatReport::default()
        };
        for (mapped, told) in [
            (local, "there is no NAT here; the firewall here: address-"),
            (([203, 0, 113, 8], 5).into(), "the NAT here: address-"),
        ] {
            let mut facts = Facts::default();
            let server = local;
            facts.note(&Status::Mapped {
                local,
                mapped,
                server,
            });
            let here = facts.what_is_here(&report);
            assert!(here.starts_with(told), "{here}");
        }
    }

    #[test]
    fn a_firewall_is_named_where_one_is_known() {
        let facts = Facts {
            is_translated: Some(false),
            ..Facts::default()
        };
        for (filtering, unsolicited, is_firewall) in [
            (None, None, false),
            (Some(NatFiltering::EndpointIndependent), None, false),
            (Some(NatFiltering::AddressDependent), None, false),
            (
                Some(NatFiltering::AddressDependent),
                Some(UnsolicitedSyn::Dropped),
                true,
            ),
            (Some(NatFiltering::AddressAndPortDependent), None, true),
        ] {
            let here = facts.what_is_here(&NatReport {
                filtering,
                unsolicited,
                ..NatReport::default()
            });
            assert_eq!(here.contains("firewall"), is_firewall, "{here}");
        }
    }

    #[test]
    fn a_reason_with_another_number_is_the_same() {
        let mut facts = Facts::default();
        let silent = |ms| DialError::PeerSilent(Duration::from_millis(ms)).to_string();
        assert!(facts.is_news(&silent(3_000)));
        assert!(!facts.is_news(&silent(13_200)));
        assert!(facts.is_news(&DialError::PeerBusy.to_string()));
    }

    #[test]
    fn a_failure_is_remembered_for_a_while() {
        let peer = PeerId::from_public_key([1; 32]);
        let failed = |at| Failure {
            peer,
            verdict: Verdict::Silent,
            at,
        };
        let long_ago = Instant::now();
        assert!(!failed(long_ago + REMEMBERED).is_like(&failed(long_ago)));
    }
}
