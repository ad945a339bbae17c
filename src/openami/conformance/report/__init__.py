"""Reports: one judgement and its sheets, as signed JSON and, made from that, as text, JUnit, HTML and PDF."""
