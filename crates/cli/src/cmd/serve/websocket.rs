//! Where WebSockets are served, and by which certificate.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, bail};
use p2pconnect_coordinator::{Certificate, CertificateError, RendezvousPorts};

use super::{
    not_listening,
    settings::{Settings, read_text},
};
use crate::words::escaped;

/// The longest file of certificates or of a key.
const MAX_BYTES: u64 = 1 << 20;

/// Where WebSockets are served.
#[derive(Debug)]
pub(super) struct WebSockets {
    pub(super) address: SocketAddr,
    pub(super) certificate: Option<Certificate>,
}

impl WebSockets {
    /// Reads what the settings say of WebSockets, if they want any.
    ///
    /// # Errors
    ///
    /// The settings do not go together, or the certificate or its key cannot be used.
    pub(super) fn wanted(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let certificate = certificate(settings)?;
        let Some(address) = settings.websocket else {
            if certificate.is_some() {
                bail!(
                    "there is a certificate for WebSockets; say by --websocket where they are served"
                );
            }
            return Ok(None);
        };
        Ok(Some(Self {
            address,
            certificate,
        }))
    }

    /// Has them served, and sets the address to the one that is listened on.
    ///
    /// # Errors
    ///
    /// Nothing can listen there.
    pub(super) fn listen(&mut self, ports: &mut RendezvousPorts) -> anyhow::Result<()> {
        let listening = ports.listen_for_web_sockets(self.address, self.certificate.clone());
        self.address = listening.map_err(|error| {
            let failed = format!("WebSockets cannot be served at {}", self.address);
            not_listening(error, &failed, "--websocket")
        })?;
        Ok(())
    }

    /// Returns the URL of the place, as far as it is known here.
    pub(super) fn url(&self) -> String {
        let scheme = match self.certificate {
            Some(_) => "wss",
            None => "ws",
        };
        format!("{scheme}://{}", self.address)
    }
}

/// Reads the certificate that the settings name, if they do.
///
/// # Errors
///
/// It cannot be read or used, or its key is missing.
pub(super) fn certificate(settings: &Settings) -> anyhow::Result<Option<Certificate>> {
    let files = (&settings.websocket_certificate, &settings.websocket_key);
    let (chain, key) = match files {
        (Some(chain), Some(key)) => (chain, key),
        (None, None) => return Ok(None),
        (Some(_), None) => bail!("the key of the certificate is missing: --websocket-key FILE"),
        (None, Some(_)) => {
            bail!("the certificate of the key is missing: --websocket-certificate FILE")
        }
    };
    let named = |path: &Path| escaped(&path.display().to_string());
    let read = |path: &Path| read_text(path, MAX_BYTES).with_context(|| named(path));
    let (certificates, secret) = (read(chain)?, read(key)?);
    let certificate = Certificate::from_pem(certificates.as_bytes(), secret.as_bytes());
    let at_fault = |error: &CertificateError| match error {
        CertificateError::NoKey | CertificateError::Key(_) | CertificateError::Mismatch => key,
        CertificateError::NoCertificate
        | CertificateError::Chain(_)
        | CertificateError::Unusable(_) => chain,
    };
    match certificate {
        Ok(certificate) => Ok(Some(certificate)),
        Err(error) => {
            let path = named(at_fault(&error));
            Err(anyhow::Error::new(error).context(path))
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use p2pconnect::SecretKey;

    use super::*;
    use crate::cmd::serve::settings::{Configuration, Sources};

    fn fault(change: impl Fn(&mut Settings)) -> String {
        let mut settings = Configuration::read(&Sources::default()).unwrap().settings;
        change(&mut settings);
        format!("{:#}", WebSockets::wanted(&settings).unwrap_err())
    }

    #[test]
    fn what_is_wrong_with_the_files_of_a_certificate_is_told_with_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let [chain, key] = ["chain.pem", "key.pem"].map(|it| directory.path().join(it));
        let both = |settings: &mut Settings| {
            settings.websocket = Some(([127, 0, 0, 1], 0).into());
            settings.websocket_certificate = Some(chain.clone());
            settings.websocket_key = Some(key.clone());
        };
        let told = fault(both);
        assert!(told.contains("chain.pem: No such file"), "{told}");
        // A key in the place of certificates.
        let secret = SecretKey::generate().unwrap().to_pem();
        std::fs::write(&chain, secret.as_bytes()).unwrap();
        std::fs::write(&key, secret.as_bytes()).unwrap();
        let told = fault(both);
        assert!(
            told.contains("chain.pem: there is no certificate in PEM"),
            "{told}"
        );
        let told = fault(|it| {
            both(it);
            it.websocket_key = None;
        });
        assert!(told.contains("--websocket-key FILE"), "{told}");
        let told = fault(|it| {
            both(it);
            it.websocket_certificate = None;
        });
        assert!(told.contains("--websocket-certificate FILE"), "{told}");
    }
}
