// Makes unfold's scripts keep to the content policy (settings, CONTENT_SECURITY_POLICY).
"use strict";
// htmx would write a <style> into the page; nothing here needs it.
if (window.htmx) window.htmx.config.includeIndicatorStyles = false;
// The width of the action bar is bound as text, which Alpine sets as a style attribute: refused. As an object Alpine
// sets the property itself: allowed.
document.addEventListener("alpine:init", () => {
  for (const bar of document.querySelectorAll("#changelist-actions[x-bind\\:style]"))
    bar.setAttribute("x-bind:style", "{width: changeListWidth + 'px'}");
});
