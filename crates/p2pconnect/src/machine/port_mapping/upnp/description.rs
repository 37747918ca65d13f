//! What a router's description says of its connections to the internet (UPnP Device Architecture
//! section 2.3).

use super::xml::{Met, XmlError, walk};

/// The most connections that are looked at. Modems that route name two, of which one is up.
const MAX_SERVICES: usize = 4;

/// What maps ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceType {
    /// WANIPConnection, of version 1 or 2 and later.
    Ip { knows_any_port: bool },
    /// WANPPPConnection.
    Ppp,
}

impl ServiceType {
    fn parse(text: &str) -> Option<Self> {
        let (name, version) = text.rsplit_once(':')?;
        match name {
            "urn:schemas-upnp-org:service:WANIPConnection" => Some(Self::Ip {
                knows_any_port: version != "1",
            }),
            "urn:schemas-upnp-org:service:WANPPPConnection" => Some(Self::Ppp),
            _ => None,
        }
    }

    /// Returns how requests name it. Later versions understand the name of version 2.
    pub(super) const fn urn(self) -> &'static str {
        match self {
            Self::Ip {
                knows_any_port: false,
            } => "urn:schemas-upnp-org:service:WANIPConnection:1",
            Self::Ip {
                knows_any_port: true,
            } => "urn:schemas-upnp-org:service:WANIPConnection:2",
            Self::Ppp => "urn:schemas-upnp-org:service:WANPPPConnection:1",
        }
    }
}

/// A connection to the internet, as the description has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) kind: ServiceType,
    /// Where requests go, relative to the description.
    pub(super) control: String,
}

/// Lists the connections that a description names.
pub(super) fn services(description: &str) -> Result<Vec<Service>, XmlError> {
    let mut services = Vec::new();
    let (mut kind, mut control) = (None, None);
    walk(description, |met| match met {
        Met::Start { name: "service" } => (kind, control) = (None, None),
        Met::End {
            name: "serviceType",
            text,
        } => kind = ServiceType::parse(text),
        Met::End {
            name: "controlURL",
            text,
        } => control = Some(text.to_owned()),
        Met::End {
            name: "service", ..
        } if services.len() < MAX_SERVICES => {
            let found = kind.take().zip(control.take());
            services.extend(found.map(|(kind, control)| Service { kind, control }));
        }
        Met::Start { .. } | Met::End { .. } => {}
    })?;
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(kind: &str, control: &str) -> String {
        let kind = format!("urn:schemas-upnp-org:service:{kind}");
        format!(
            "<service><serviceType>{kind}</serviceType><serviceId>x</serviceId>\
             <controlURL> {control} </controlURL></service>"
        )
    }

    fn root(services: &str) -> String {
        format!(
            "<?xml version='1.0'?><root xmlns='urn:schemas-upnp-org:device-1-0'><device><deviceList>\
             <device><serviceList>{services}</serviceList></device></deviceList></device></root>"
        )
    }

    #[test]
    fn connections_to_the_internet_are_found_among_other_services() {
        let all = [
            service("Layer3Forwarding:1", "/ctl/L3F"),
            service("WANIPConnection:2", "/ctl/IP"),
            service("WANPPPConnection:1", "ppp?a&amp;b"),
            service("WANIPConnection:1", "/old"),
            "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
             </service>"
                .into(),
        ];
        let found = services(&root(&all.concat())).ok();
        let expected = [
            (
                ServiceType::Ip {
                    knows_any_port: true,
                },
                "/ctl/IP",
            ),
            (ServiceType::Ppp, "ppp?a&b"),
            (
                ServiceType::Ip {
                    knows_any_port: false,
                },
                "/old",
            ),
        ];
        let expected = expected.map(|(kind, control)| Service {
            kind,
            control: control.to_owned(),
        });
        assert_eq!(found, Some(expected.to_vec()));
    }

    #[test]
    fn a_description_names_few_connections() {
        let many = service("WANIPConnection:1", "/a").repeat(100);
        let found = services(&root(&many)).map(|found| found.len()).ok();
        assert_eq!(found, Some(MAX_SERVICES));
    }

    /// What takes a parser that keeps the names in scope with each element all memory.
    #[test]
    fn many_namespaces_times_many_elements_are_refused() {
        let names: String = (0..2000).map(|at| format!(" xmlns:n{at}='u'")).collect();
        let bomb = format!("<root{names}>{}</root>", "<a/>".repeat(20_000));
        assert!(matches!(services(&bomb), Err(XmlError::TooMany)));
    }
}
