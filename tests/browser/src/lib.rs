//! A headless browser, spoken to with the Chrome DevTools Protocol: how the verifier's page looks to somebody who reads it.
//!
//! The browser is Debian's `chromium-headless-shell`, which `cargo xtask test` installs, or the program that `TDP_BROWSER`
//! names. It is a browser whose layout people use, without windows (`wkhtmltopdf` and `w3m` know neither
//! custom properties nor colour schemes, nor the tree that programs read pages aloud from).
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    reason = "members of JSON, null where there is none"
)]

mod pipe;

use anyhow::{Context, Result, bail, ensure};
use pipe::Pipe;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where Debian puts it.
const BROWSER: &str = "/usr/bin/chromium-headless-shell";

/// A browser with one page, on which no script runs but what [`Page::evaluate`] asks.
pub struct Page {
    pipe: Pipe,
    session: String,
    events: Vec<Value>,
}

/// How somebody looks at a page.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Of the window, in CSS pixels.
    pub width: u32,
    /// `screen` or `print`.
    pub medium: &'static str,
    /// `light` or `dark`.
    pub scheme: &'static str,
}

impl Page {
    /// Starts the browser.
    ///
    /// # Errors
    /// It is not there, or does not answer.
    pub fn start() -> Result<Page> {
        let program = std::env::var_os("TDP_BROWSER").map_or_else(|| BROWSER.into(), PathBuf::from);
        ensure!(
            program.exists(),
            "{} is missing: `cargo xtask test` installs it, or as root: apt-get install --no-install-recommends chromium-headless-shell",
            program.display()
        );
        let mut page = Page {
            pipe: Pipe::to(&program)?,
            session: String::new(),
            events: Vec::new(),
        };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let target = target.get("targetId").context("no target")?.clone();
        let attach = json!({"targetId": target, "flatten": true});
        let session = page.call("Target.attachToTarget", attach)?;
        let session = session.get("sessionId").and_then(Value::as_str);
        page.session = session.context("no session")?.to_owned();
        for domain in ["Page", "Network", "Log", "Runtime", "Accessibility"] {
            page.call(&format!("{domain}.enable"), json!({}))?;
        }
        page.call("Emulation.setScrollbarsHidden", json!({"hidden": true}))?;
        let disabled = json!({"value": true});
        page.call("Emulation.setScriptExecutionDisabled", disabled)?;
        Ok(page)
    }

    /// Calls a method of the protocol, and keeps the events that come meanwhile.
    fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        let id = self.pipe.send(method, parameters, &self.session)?;
        loop {
            let mut message = self.pipe.receive()?;
            if message.get("id") != Some(&json!(id)) {
                self.events.push(message);
                continue;
            }
            if let Some(error) = message.get("error") {
                bail!("{method}: {error}");
            }
            return Ok(message["result"].take());
        }
    }

    /// Opens a file, and waits until it is loaded.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn open(&mut self, file: &Path) -> Result<()> {
        self.events.clear();
        let url = format!("file://{}", file.display());
        let opened = self.call("Page.navigate", json!({"url": url}))?;
        ensure!(opened.get("errorText").is_none(), "{url}: {opened}");
        while self.events_of("Page.loadEventFired").next().is_none() {
            let event = self.pipe.receive()?;
            self.events.push(event);
        }
        Ok(())
    }

    /// The parameters of the events of a kind since a file was opened.
    pub fn events_of(&self, method: &str) -> impl Iterator<Item = &Value> {
        let events = self.events.iter();
        events
            .filter(move |event| event["method"] == method)
            .map(|event| &event["params"])
    }

    /// Looks at the page so from now on.
    ///
    /// # Errors
    /// The browser cannot.
    pub fn look(&mut self, look: Look) -> Result<()> {
        let metrics = json!({
            "width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": look.width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        let scheme = json!([{"name": "prefers-color-scheme", "value": look.scheme}]);
        let media = json!({"media": look.medium, "features": scheme});
        self.call("Emulation.setEmulatedMedia", media)?;
        Ok(())
    }

    /// The value of an expression, on the page as it is.
    ///
    /// # Errors
    /// The expression throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({"expression": expression, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", asked)?;
        if let Some(problem) = answer.get("exceptionDetails") {
            bail!("{problem}");
        }
        Ok(answer["result"]["value"].take())
    }

    /// What a program that reads pages aloud is told: role and name of each node.
    ///
    /// # Errors
    /// The browser cannot.
    pub fn read_aloud(&mut self) -> Result<Vec<(String, String)>> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}))?;
        let text = |node: &Value, member: &str| {
            let value = node[member]["value"].as_str();
            value.unwrap_or_default().to_owned()
        };
        let nodes = tree["nodes"].as_array().context("no tree")?;
        Ok(nodes
            .iter()
            .filter(|node| node["ignored"] != true)
            .map(|node| (text(node, "role"), text(node, "name")))
            .collect())
    }

    /// A picture of all of the page as a PNG, in base64.
    ///
    /// # Errors
    /// The browser cannot.
    pub fn picture(&mut self) -> Result<String> {
        let options = json!({"format": "png", "captureBeyondViewport": true});
        self.encoded("Page.captureScreenshot", options)
    }

    /// The page on paper, as a PDF, in base64.
    ///
    /// # Errors
    /// The browser cannot.
    pub fn print(&mut self) -> Result<String> {
        let options = json!({"printBackground": false, "preferCSSPageSize": true});
        self.encoded("Page.printToPDF", options)
    }

    fn encoded(&mut self, method: &str, options: Value) -> Result<String> {
        let answer = self.call(method, options)?;
        let data = answer["data"].as_str();
        Ok(data
            .with_context(|| format!("{method} gives nothing"))?
            .to_owned())
    }
}
