//! TLS 1.3 over one TCP connection by tokio and rustls, and nothing else: what a stream could at
//! best carry. It needs no server and passes no NAT.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer},
        version::TLS13,
    },
};
use versus::{Arrival, Dial, Role, Stopwatch, announce};

const NAME: &str = "bare";

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let stopwatch = Stopwatch::start();
    match Role::from_arguments()? {
        Role::Serve(address) => {
            announce(address.ip());
            std::future::pending().await
        }
        Role::Listen(_) => listen(stopwatch).await,
        Role::Dial(dial) => Ok(Stopwatch::report(&dial, connect(stopwatch, &dial)).await),
    }
}

/// Listens and announces its port and certificate, in which the dialler trusts.
async fn listen(mut stopwatch: Stopwatch) -> Result<ExitCode> {
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let key =
        PrivateKeyDer::try_from(own.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let certificate = own.cert.der().clone();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    let hex: String = certificate
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    stopwatch.ready();
    announce(format_args!("{}/{hex}", listener.local_addr()?.port()));
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    stopwatch.serve(acceptor.accept(stream).await?).await?;
    Ok(ExitCode::SUCCESS)
}

async fn connect(mut stopwatch: Stopwatch, dial: &Dial) -> Result<(Arrival, TlsStream<TcpStream>)> {
    stopwatch.ready();
    let (port, hex) = dial.peer.split_once('/').context("no certificate")?;
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16);
    let certificate: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(byte)
        .collect::<Result<_, _>>()?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate))?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Where there is no NAT, the listener is where compare says that it is.
    let address = SocketAddr::new(dial.server.parse()?, port.parse()?);
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(NAME.try_into()?, stream).await?;
    Ok((stopwatch.arrived(), stream))
}
