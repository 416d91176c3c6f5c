//! Certificate authorities made at start and forgotten at the end. Owns keys in memory, never a file.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::Error;

/// A certificate with its key, both as PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate; intermediates may follow.
    pub certificate_pem: String,
    /// Its private key (PKCS #8).
    pub key_pem: String,
}

impl Identity {
    /// The same as rustls wants it.
    pub fn to_rustls(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let chain =
            CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?;
        Ok((chain, key))
    }
}

/// A certificate authority. Cheap to clone: clones share one key.
#[derive(Debug, Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    pem: Arc<str>,
    der: CertificateDer<'static>,
}

impl Authority {
    /// Makes a new authority with that common name.
    pub fn new(common_name: &str) -> Result<Self, Error> {
        let (params, key) = (authority_params(common_name)?, KeyPair::generate()?);
        Ok(Self::of(&params.self_signed(&key)?, params, key))
    }

    /// An authority whose own time was over long ago.
    pub fn expired(common_name: &str) -> Result<Self, Error> {
        let (mut params, key) = (authority_params(common_name)?, KeyPair::generate()?);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        Ok(Self::of(&params.self_signed(&key)?, params, key))
    }

    /// An authority below this one.
    pub fn intermediate(&self, common_name: &str) -> Result<Self, Error> {
        let (params, key) = (authority_params(common_name)?, KeyPair::generate()?);
        Ok(Self::of(&params.signed_by(&key, &self.issuer)?, params, key))
    }

    fn of(certificate: &Certificate, params: CertificateParams, key: KeyPair) -> Self {
        Self {
            pem: certificate.pem().into(),
            der: certificate.der().clone(),
            issuer: Arc::new(Issuer::new(params, key)),
        }
    }

    /// Its certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate as DER.
    pub fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    /// A client certificate: the user is the common name, the groups are the organizations (at most two: rcgen keeps
    /// one value per attribute type; users of more groups take a token).
    pub fn client<S: AsRef<str>>(&self, common_name: &str, organizations: &[S]) -> Result<Identity, Error> {
        let mut params = client_params(common_name, organizations)?;
        backdate(&mut params);
        self.sign(&params)
    }

    /// A client certificate of any shape.
    pub fn client_with(
        &self,
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Identity, Error> {
        let mut params = client_params::<&str>(common_name, &[])?;
        backdate(&mut params);
        change(&mut params);
        self.sign(&params)
    }

    /// A client certificate whose time was over long ago.
    pub fn expired_client<S: AsRef<str>>(&self, common_name: &str, orgs: &[S]) -> Result<Identity, Error> {
        let mut params = client_params(common_name, orgs)?;
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(&params)
    }

    /// A serving certificate for these DNS names and addresses.
    pub fn serving<S: AsRef<str>>(&self, names: &[S]) -> Result<Identity, Error> {
        let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        let common_name = names.first().cloned().unwrap_or_default();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = subject::<&str>(&common_name, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        backdate(&mut params);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Identity, Error> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

fn authority_params(common_name: &str) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = subject::<&str>(common_name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn client_params<S: AsRef<str>>(common_name: &str, orgs: &[S]) -> Result<CertificateParams, Error> {
    if orgs.len() > 2 {
        return Err(Error::TooManyOrganizations { common_name: common_name.to_owned(), count: orgs.len() });
    }
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = subject(common_name, orgs);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn backdate(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
}

fn subject<S: AsRef<str>>(common_name: &str, orgs: &[S]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // rcgen keeps one value per attribute type, so the second organization goes in as a type of its own that has the
    // same object identifier.
    for (position, organization) in orgs.iter().enumerate() {
        let kind =
            if position == 0 { DnType::OrganizationName } else { DnType::CustomDnType(vec![2, 5, 4, 10]) };
        name.push(kind, organization.as_ref());
    }
    name.push(DnType::CommonName, common_name);
    name
}
