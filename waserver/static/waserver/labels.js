// Names for screen readers: select2 hides the field that the label is for, and shows a box without a name.
"use strict";
// In jQuery's queue, so that it comes after select2 has made its boxes, which waits in the same queue.
addEventListener("DOMContentLoaded", () => window.django?.jQuery?.(() => {
  for (const box of document.querySelectorAll(".select2-selection")) {
    const field = box.closest(".select2-container").previousElementSibling;
    const label = field?.labels?.[0], chosen = box.querySelector(".select2-selection__rendered");
    if (!label || !chosen) continue;
    label.id ||= `${field.id}-label`;
    for (const name of ["role", "aria-readonly"]) chosen.removeAttribute(name);  // it is text, and no field of its own
    box.setAttribute("aria-labelledby", `${label.id} ${chosen.id}`);
    django.jQuery(field).on("select2:open", () =>
      document.querySelector(".select2-container--open .select2-search__field")?.setAttribute("aria-labelledby", label.id));
  }
}));
