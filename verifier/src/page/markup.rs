//! HTML that is written front to back. Texts go through [`Html::text`], which escapes them.

/// What is written so far.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup, of this crate alone.
    pub(super) fn raw(&mut self, markup: &str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// A text, whoever wrote it: in an element or an attribute in quotation marks it is nothing else.
    pub(super) fn text(&mut self, text: &str) -> &mut Html {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        self
    }

    /// A value.
    pub(super) fn code(&mut self, value: &str) -> &mut Html {
        self.raw("<code>").text(value).raw("</code>")
    }

    /// A paragraph of text.
    pub(super) fn paragraph(&mut self, text: &str) -> &mut Html {
        self.raw("<p>").text(text).raw("</p>\n")
    }

    /// A name and its description in a list of such.
    pub(super) fn entry(
        &mut self,
        name: &str,
        describe: impl FnOnce(&mut Html) -> &mut Html,
    ) -> &mut Html {
        self.raw("<dt>").text(name).raw("</dt><dd>");
        describe(self);
        self.raw("</dd>\n")
    }

    /// The start of a table, up to its body: caption, and class and name of each column. The roles stay a table's where the
    /// style makes a list of it.
    pub(super) fn table(&mut self, caption: &str, columns: &[(&str, &str)]) -> &mut Html {
        self.raw("<table role=\"table\">\n<caption>").text(caption);
        self.raw("</caption>\n<thead role=\"rowgroup\">\n<tr role=\"row\">");
        for (class, name) in columns {
            self.raw("<th role=\"columnheader\" scope=\"col\"");
            if !class.is_empty() {
                self.raw(" class=\"").text(class).raw("\"");
            }
            self.raw(">").text(name).raw("</th>");
        }
        self.raw("</tr>\n</thead>\n<tbody role=\"rowgroup\">\n")
    }

    /// The page.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}
