"""The look of the page: light, dark and on paper."""

STYLE = """
:root{color-scheme:light dark;--ground:#fbfbfa;--card:#fff;--ink:#1c1e21;--soft:#666b73;--line:#e1e3e6;
--pass:#0b7a4b;--fail:#c0262d;--warn:#9a6200;
--c0:#2f6fde;--c1:#e07a1f;--c2:#159a80;--c3:#c43d77;--c4:#7d5bd0;--c5:#8a8f1d;--c6:#8c8c8c;--c7:#4aa3d8}
@media (prefers-color-scheme:dark){:root{--ground:#15171a;--card:#1e2125;--ink:#e8eaed;--soft:#9aa1aa;--line:#343a41;
--pass:#4cc38a;--fail:#ff6b6e;--warn:#e2a63b;
--c0:#6ba1ff;--c1:#f29b54;--c2:#3fc6aa;--c3:#ec6fa3;--c4:#a78bf0;--c5:#c3c84f;--c6:#a0a0a0;--c7:#7cc7f2}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",
sans-serif;overflow-wrap:anywhere}
main{max-width:1200px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 2px}h2{font-size:18px;margin:34px 0 10px}h3{font-size:14px;margin:14px 0 6px}
h1.network{margin-top:48px;padding-top:26px;border-top:1px solid var(--line)}
p{margin:6px 0}.soft,.absent{color:var(--soft)}
.decision{border-left:6px solid var(--pass);background:var(--card);border-radius:6px;padding:14px 20px;margin:18px 0}
.decision.no{border-color:var(--fail)}.decision strong{font-size:20px;color:var(--pass)}
.decision.no strong{color:var(--fail)}.decision ul{margin:6px 0 4px;padding-left:20px}
.caveats{color:var(--warn)}
.grid{display:grid;margin:10px 0;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:16px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px;min-width:0;
break-inside:avoid}
.card h3{margin-top:0}.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th{text-align:right;font-weight:600;color:var(--soft);border-bottom:1px solid var(--line);padding:5px 8px;
vertical-align:bottom}
td{text-align:right;border-bottom:1px solid var(--line);padding:5px 8px;vertical-align:top}
th:first-child,td:first-child{text-align:left;padding-left:0}td:not(:first-child),th{overflow-wrap:normal}
tr:last-child td{border-bottom:0}tr{break-inside:avoid}
.PASS{color:var(--pass);font-weight:600}.FAIL{color:var(--fail);font-weight:600}
svg{width:100%;height:auto;display:block;font:11px system-ui,"DejaVu Sans",sans-serif}
svg text{fill:var(--ink)}svg .tick{fill:var(--soft)}svg .grid{stroke:var(--line)}svg .whisker{stroke-width:2;
opacity:.55}
.fill.s0{fill:var(--c0)}.fill.s1{fill:var(--c1)}.fill.s2{fill:var(--c2)}.fill.s3{fill:var(--c3)}
.fill.s4{fill:var(--c4)}.fill.s5{fill:var(--c5)}.fill.s6{fill:var(--c6)}.fill.s7{fill:var(--c7)}
.whisker.s0,.stroke.s0{stroke:var(--c0)}.whisker.s1,.stroke.s1{stroke:var(--c1)}.whisker.s2,.stroke.s2{
stroke:var(--c2)}
.whisker.s3,.stroke.s3{stroke:var(--c3)}.whisker.s4,.stroke.s4{stroke:var(--c4)}.whisker.s5,.stroke.s5{
stroke:var(--c5)}
.whisker.s6,.stroke.s6{stroke:var(--c6)}.whisker.s7,.stroke.s7{stroke:var(--c7)}
.stroke{fill:none;stroke-width:2}
.alone svg{max-width:780px;margin:0 auto}
.choice{fill:var(--card);stroke:var(--soft);stroke-width:2}.choice.within{stroke:var(--c0)}
.choice.won{fill:var(--pass);stroke:var(--pass)}.whisker.within{stroke:var(--c0)}.whisker.outside{stroke:var(--soft)}
.whisker.won{stroke:var(--pass)}svg .name.outside{fill:var(--soft)}svg .name.won{fill:var(--pass);font-weight:600}
.budget{stroke:var(--fail);stroke-dasharray:5 4}.front{fill:none;stroke:var(--line);stroke-width:2}
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:12px}
.clip{border:1px solid var(--line);border-radius:8px;padding:10px;font-size:13px;break-inside:avoid;min-width:0}
.clip img{width:100%;border-radius:4px;display:block;margin-bottom:6px}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px;overflow:auto;font-size:12px;
max-height:420px}
details summary{cursor:pointer;color:var(--soft)}
@page{size:A4 landscape;margin:12mm}
@media print{:root{color-scheme:light;--ground:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--pass:#0b6b42;
--fail:#b01c22;--warn:#7a4d00;--c0:#2f6fde;--c1:#e07a1f;--c2:#159a80;--c3:#c43d77;--c4:#7d5bd0;--c5:#8a8f1d;
--c6:#8c8c8c;
--c7:#4aa3d8}
main{max-width:none;padding:0}body{font-size:11pt}h1.network{break-before:page}
h2,h3{break-after:avoid}table{font-size:8.5pt}th,td{padding:3px 5px}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
.grid{grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr))}pre{max-height:none;overflow:visible;
white-space:pre-wrap}
.scroll{overflow:visible}}
"""
