//! What is asked of a router's connection to the internet, and what it answers
//! (WANIPConnection:2, sections 2.5 and 2.6).

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use super::{
    description::ServiceType,
    xml::{Met, XmlError, walk},
};

/// How the router's list of mappings names ours.
const DESCRIPTION: &str = "p2pconnect";

/// How much of a router's words about its errors is kept, in characters.
const MAX_WORDS: usize = 60;

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    GetExternalIp,
    Add(Wanted),
    /// The router chooses another external port if that is taken.
    AddAny(Wanted),
    Delete {
        external_port: u16,
    },
}

/// A mapping that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) external_port: u16,
    pub(super) local: SocketAddrV4,
    pub(super) lifetime_s: u32,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::GetExternalIp => "GetExternalIPAddress",
            Self::Add(_) => "AddPortMapping",
            Self::AddAny(_) => "AddAnyPortMapping",
            Self::Delete { .. } => "DeletePortMapping",
        }
    }

    /// Returns the value of the header that names the request.
    pub(super) fn header(self, service: ServiceType) -> String {
        format!("\"{}#{}\"", service.urn(), self.name())
    }

    /// Returns the body of the request.
    pub(super) fn body(self, service: ServiceType) -> String {
        let (name, urn) = (self.name(), service.urn());
        let arguments = match self {
            Self::GetExternalIp => String::new(),
            Self::Add(wanted) | Self::AddAny(wanted) => wanted.to_string(),
            Self::Delete { external_port } => outside(external_port),
        };
        format!(
            "<?xml version=\"1.0\"?>\r\n\
             <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{name} xmlns:u=\"{urn}\">{arguments}</u:{name}></s:Body></s:Envelope>\r\n"
        )
    }
}

impl fmt::Display for Wanted {
    /// Writes the arguments in the order that the standard has them in, which some routers rely on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, port) = (self.local.ip(), self.local.port());
        f.write_str(&outside(self.external_port))?;
        write!(f, "<NewInternalPort>{port}</NewInternalPort>")?;
        write!(f, "<NewInternalClient>{ip}</NewInternalClient>")?;
        write!(f, "<NewEnabled>1</NewEnabled>")?;
        write!(
            f,
            "<NewPortMappingDescription>{DESCRIPTION}</NewPortMappingDescription>"
        )?;
        write!(
            f,
            "<NewLeaseDuration>{}</NewLeaseDuration>",
            self.lifetime_s
        )
    }
}

/// Returns the arguments that name a mapping: for whichever remote host, a port by TCP.
fn outside(external_port: u16) -> String {
    format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external_port}</NewExternalPort>\
         <NewProtocol>TCP</NewProtocol>"
    )
}

/// What a router answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) external_ip: Option<Ipv4Addr>,
    /// Which external port it has chosen.
    pub(super) reserved_port: Option<u16>,
    pub(super) refusal: Option<Refusal>,
}

/// That a router does not do what it was asked for, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(super) code: u16,
    words: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {} ({:?})", self.code, self.words)
    }
}

impl Answer {
    /// Reads the body of an answer, or of a fault.
    pub(super) fn read(body: &str) -> Result<Self, XmlError> {
        let mut answer = Self::default();
        let (mut code, mut words) = (None, String::new());
        walk(body, |met| match met {
            Met::End {
                name: "NewExternalIPAddress",
                text,
            } => answer.external_ip = text.parse().ok(),
            Met::End {
                name: "NewReservedPort",
                text,
            } => answer.reserved_port = text.parse().ok(),
            Met::End {
                name: "errorCode",
                text,
            } => code = text.parse().ok(),
            Met::End {
                name: "errorDescription",
                text,
            } => words = text.chars().take(MAX_WORDS).collect(),
            Met::Start { .. } | Met::End { .. } => {}
        })?;
        answer.refusal = code.map(|code| Refusal { code, words });
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        external_port: 4433,
        local: SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 2), 5000),
        lifetime_s: 1200,
    };

    #[test]
    fn a_request_names_its_service_and_arguments_in_order() {
        let service = ServiceType::Ip {
            knows_any_port: false,
        };
        let action = Action::Add(WANTED);
        let header = "\"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\"";
        assert_eq!(action.header(service), header);
        let mut told = Vec::new();
        let read = walk(&action.body(service), |met| {
            if let Met::End { name, text } = met {
                told.push(format!("{name}={text}"));
            }
        });
        assert!(read.is_ok());
        let expected = [
            "NewRemoteHost=",
            "NewExternalPort=4433",
            "NewProtocol=TCP",
            "NewInternalPort=5000",
            "NewInternalClient=192.168.1.2",
            "NewEnabled=1",
            "NewPortMappingDescription=p2pconnect",
            "NewLeaseDuration=1200",
            "AddPortMapping=",
            "Body=",
            "Envelope=",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_answer_tells_an_address_a_port_or_why_not() {
        let answer = |inner: &str| {
            let body = format!("<s:Envelope xmlns:s='e'><s:Body>{inner}</s:Body></s:Envelope>");
            Answer::read(&body).unwrap_or_default()
        };
        let told = answer("<u:R><NewExternalIPAddress>203.0.113.9</NewExternalIPAddress></u:R>");
        assert_eq!(told.external_ip, Some(Ipv4Addr::new(203, 0, 113, 9)));
        let told = answer("<u:R><NewReservedPort>777</NewReservedPort></u:R>");
        assert_eq!(told.reserved_port, Some(777));
        let fault = "<s:Fault><detail><UPnPError><errorCode>725</errorCode><errorDescription>\
                     Only\u{1b}[2J</errorDescription></UPnPError></detail></s:Fault>";
        let refusal = answer(fault).refusal.map(|refusal| refusal.to_string());
        assert_eq!(refusal.as_deref(), Some("error 725 (\"Only\\u{1b}[2J\")"));
        assert!(Answer::read("nonsense").is_err());
    }
}
