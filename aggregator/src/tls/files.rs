//! Certificate files that change: looked at every so often, taken over when their content is another one and can be used.
//! What cannot be used is counted and told once; the port goes on with the last good pair.

use std::time::Duration;

use super::{
    Live, LoadError, Metrics,
    load::{Content, Files},
};

/// Follows the files of one port.
#[derive(Debug)]
pub struct Reload {
    port: &'static str,
    files: Files,
    live: Live,
    metrics: Metrics,
    /// The content last looked at, good or bad.
    seen: [u8; 32],
    /// What was last complained about; it is not said twice in a row.
    complaint: Option<String>,
}

impl Reload {
    /// Loads the pair for the first time: here an error ends the start.
    pub async fn load(port: &'static str, files: Files, metrics: Metrics) -> Result<(Self, Live), LoadError> {
        let live = Live::default();
        let content = files.read().await?;
        let mut reload =
            Self { port, files, live: live.clone(), metrics, seen: content.digest, complaint: None };
        reload.take(&content)?;
        Ok((reload, live))
    }

    /// Looks at the files every `interval`, forever.
    pub async fn run(mut self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            self.look().await;
        }
    }

    /// Looks at the files once.
    pub(super) async fn look(&mut self) {
        let taken = match self.files.read().await {
            Ok(content) if content.digest == self.seen && self.complaint.is_none() => return,
            // A pair whose halves were read from two versions is whole at the next look: so the content is taken for seen
            // only when it could be used.
            Ok(content) => self.take(&content).map(|()| self.seen = content.digest),
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => {
                tracing::info!(port = self.port, "serving with the certificate as it is in its file now");
                self.complaint = None;
            }
            Err(error) => {
                self.metrics.failed(self.port);
                let text = error.to_string();
                if self.complaint.as_ref() != Some(&text) {
                    tracing::error!(port = self.port, %error, "going on with the last good certificate");
                    self.complaint = Some(text);
                }
            }
        }
    }

    fn take(&mut self, content: &Content) -> Result<(), LoadError> {
        let serving = self.files.parse(content)?;
        self.metrics.loaded(self.port, serving.not_after());
        self.live.replace(serving);
        Ok(())
    }
}
