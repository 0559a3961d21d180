//! The cluster's own certificate authority: for its servers, and for clients that log in by certificate.

use std::{net::IpAddr, sync::Arc};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// Signs certificates.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn create() -> Result<Self> {
        let key = KeyPair::generate().context("making the key of the test CA")?;
        let mut params = named("balancing test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).context("making the test CA")?;
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Ok(Self { issuer: Issuer::new(params, key), der, pem })
    }

    /// For a client: `name` is the user, `groups` are the user's groups. The DER form is what a server sees of it.
    pub(crate) fn client(&self, name: &str, groups: &[String]) -> Result<(Identity, Vec<u8>)> {
        let mut params = named(name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, group.as_str());
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().context("making a client's key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("signing a client's certificate")?;
        let identity = Identity { certificate: certificate.pem(), key: key.serialize_pem() };
        Ok((identity, certificate.der().to_vec()))
    }

    /// For a server that is called by these names and addresses.
    pub(crate) fn server(&self, names: &[&str]) -> Result<Identity> {
        let mut params =
            CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
                .with_context(|| format!("a certificate for {names:?}"))?;
        params.distinguished_name = named(names.first().copied().unwrap_or_default()).distinguished_name;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().context("making a server's key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("signing a server's certificate")?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// What an API server at `address` needs to accept TLS.
    pub(crate) fn accept_at(&self, address: IpAddr) -> Result<Arc<ServerConfig>> {
        let address = address.to_string();
        let names =
            ["kubernetes", "kubernetes.default.svc", "localhost", "127.0.0.1", "::1", address.as_str()];
        let identity = self.server(&names)?;
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).context("trusting the test CA")?;
        let provider = Arc::new(default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .context("checking clients against the test CA")?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![certificate.context("the test server's certificate")?],
                key.context("the test server's key")?,
            )
            .context("the test server's certificate and key")?;
        Ok(Arc::new(config))
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
