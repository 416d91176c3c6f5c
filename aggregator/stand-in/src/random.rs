//! Random bytes from the TLS library's generator.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::Error;

fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.secure_random.fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

/// A random (version 4) UUID.
pub(crate) fn uuid() -> Result<String, Error> {
    let random = u128::from_be_bytes(bytes()?);
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    Ok([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

/// 256 random bits in base64url.
pub(crate) fn secret() -> Result<String, Error> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<32>()?))
}
