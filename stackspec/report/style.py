"""The style sheet of the report, for the standalone page and inside pytest-html's page, light and dark."""

STYLE = """
.stackspec{--fg:#1f2328;--dim:#59636e;--bg:#fff;--box:#f4f6f8;--rule:#d5dae0;--good:#1a7f37;--bad:#c0262d;--wait:#9a6700;
--done:#2f6fbf;--pool:#7a5fb0;--pass:#2c8f4e;--skip:#8a949e;--on:#fff;--add:#dcf5e3;--del:#fde3e3;
font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:var(--fg);background:var(--bg)}
@media (prefers-color-scheme:dark){.stackspec{--fg:#dde3ea;--dim:#98a3af;--bg:#14181d;--box:#1e242b;--rule:#38414b;
--good:#56c271;--bad:#ff7b72;--wait:#e0a93b;--done:#3a78c4;--pool:#8468bd;--pass:#2f8a4d;--skip:#66707b;
--add:#12351f;--del:#451c1f}}
.stackspec *{box-sizing:border-box}
.stackspec p,.stackspec h1,.stackspec h2,.stackspec h3,.stackspec pre,.stackspec summary{color:inherit}
.stackspec h1{font-size:15px;font-weight:600;color:var(--dim);margin:0 0 6px}
.stackspec h2{font-size:17px;margin:26px 0 8px}
.stackspec h3{font-size:15px;margin:0 0 4px;overflow-wrap:anywhere}
.stackspec p{margin:4px 0}
.stackspec .verdict{font-size:18px;padding:10px 14px;margin:0;border-left:6px solid var(--wait);background:var(--box);
overflow-wrap:anywhere}
.stackspec .verdict b{color:var(--wait);margin-right:6px}
.stackspec .verdict.good{border-color:var(--good)}.stackspec .verdict.good b{color:var(--good)}
.stackspec .verdict.bad{border-color:var(--bad)}.stackspec .verdict.bad b{color:var(--bad)}
.stackspec .cause{border:1px solid var(--rule);border-left:4px solid var(--bad);padding:10px 14px;margin:10px 0}
.stackspec .dim,.stackspec .cut{color:var(--dim)}
.stackspec .cut{font-style:italic}
.stackspec pre{font:12px/1.45 ui-monospace,"DejaVu Sans Mono",Consolas,monospace;background:var(--box);padding:8px 10px;
margin:6px 0;white-space:pre-wrap;overflow-wrap:anywhere;max-height:32em;overflow-y:auto}
.stackspec table{border-collapse:collapse;width:100%;font-size:13px}
.stackspec th,.stackspec td{text-align:left;vertical-align:top;padding:4px 10px 4px 0;
border-bottom:1px solid var(--rule);overflow-wrap:anywhere}
.stackspec th{color:var(--dim);font-weight:600}
.stackspec td.n,.stackspec th.n{text-align:right;padding-right:22px;
white-space:nowrap;font-variant-numeric:tabular-nums}
.stackspec td.state{white-space:nowrap;font-weight:600}
.stackspec .done,.stackspec .passed{color:var(--good)}.stackspec .flaky{color:var(--wait)}
.stackspec .failed,.stackspec .error,.stackspec .drift{color:var(--bad)}
.stackspec .blocked,.stackspec .running{color:var(--wait)}.stackspec .skipped,.stackspec .waiting{color:var(--dim)}
.stackspec summary{cursor:pointer}
.stackspec details details{margin-left:14px}
.stackspec pre .add{background:var(--add);display:block}.stackspec pre .del{background:var(--del);display:block}
.stackspec pre .at{color:var(--dim);display:block}
.stackspec img{max-width:100%;border:1px solid var(--rule);margin:6px 0}
.stackspec svg.timeline{width:100%;height:auto;min-width:700px;display:block}
.stackspec .scroll{overflow-x:auto}
.stackspec svg text{fill:var(--fg);font-size:11px;font-family:inherit}.stackspec svg .tick{fill:var(--dim)}
.stackspec svg .in{fill:var(--on);pointer-events:none}.stackspec svg .lane{font-weight:600;font-size:12px}
.stackspec svg .rule{stroke:var(--rule);stroke-width:1}
.stackspec .bar{fill:var(--done)}.stackspec .bar.packages{fill:var(--pool)}.stackspec .bar.passed{fill:var(--pass)}
.stackspec .bar.failed,.stackspec .bar.error,.stackspec .bar.drift{fill:#c9363d}
.stackspec .bar.skipped,.stackspec .bar.blocked{fill:var(--skip)}
.stackspec .bar.running{fill:#a8720a;stroke:var(--fg);stroke-dasharray:3 2}
.stackspec .legend span{margin-right:16px;white-space:nowrap;color:var(--dim);font-size:12px}
.stackspec .legend svg{width:12px;height:12px;vertical-align:-1px;margin-right:5px}
"""

PAGE_STYLE = """
:root{color-scheme:light dark}
body{margin:0;background:#fff}
@media (prefers-color-scheme:dark){body{background:#14181d}}
main{max-width:1240px;margin:0 auto;padding:20px}
"""

FRAME_STYLE = """
body{display:flex;flex-direction:column}#title,#title+p{order:-2}.summary{order:-1;display:block}.summary__data,.summary__spacer{flex:none}
.stackspec{padding:12px 14px;margin:8px 0 16px;border:1px solid #d5dae0}
.extraHTML .stackspec{border:0;padding:0;margin:4px 0}
@media (prefers-color-scheme:dark){:root{color-scheme:dark}body{background:#14181d;color:#98a3af}
body h1,body h2,body p,.logwrapper .log{color:#dde3ea}.logwrapper,.logwrapper .logexpander{background:#1e242b}
#environment tr:nth-child(odd){background:#1e242b}#environment td,#results-table,#results-table th,#results-table td,
.logwrapper .log,div.media{border-color:#38414b}.stackspec{border-color:#38414b}}
"""
"""Adapts pytest-html's page to the reader's colour scheme, and shows its summary first and in full width."""
