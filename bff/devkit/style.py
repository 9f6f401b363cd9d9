"""The one style of the provider's pages; light and dark."""

STYLE = """
:root{color-scheme:light dark;--ink:#16202b;--soft:#5b6878;--line:#dde3ea;--paper:#fff;--ground:#f3f5f8;--accent:#1f5fd0;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e8edf3;--soft:#9aa7b6;--line:#2c3644;--paper:#18202a;--ground:#10161d;--accent:#7aa7ff;
--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;display:flex;flex-direction:column;align-items:center;
padding:4rem 1rem}
main{width:100%;max-width:29rem;background:var(--paper);border:1px solid var(--line);border-radius:14px;padding:2rem;
box-shadow:0 12px 40px #0b1a2c14}
main.wide{max-width:60rem}
h1{font-size:1.4rem;margin:0 0 .3rem;letter-spacing:-.01em}
h2{font-size:1rem;margin:2rem 0 .6rem}
p{margin:.2rem 0 1.2rem;color:var(--soft)}
strong{color:var(--ink)}
.note{color:var(--bad)}
button{font:inherit;cursor:pointer;border-radius:10px;border:1px solid var(--line);background:var(--paper);color:var(--ink);
padding:.6rem 1rem}
button:hover{border-color:var(--accent)}
button:focus-visible,input:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
button.go{background:var(--accent);border-color:var(--accent);color:#fff}
@media(prefers-color-scheme:dark){button.go{color:#0b1420}}
button.person{display:flex;gap:.9rem;align-items:center;width:100%;text-align:left;margin:.6rem 0;padding:.8rem 1rem}
.face{flex:none;width:2.6rem;height:2.6rem;border-radius:50%;display:grid;place-items:center;font-weight:600;color:#fff;
background:#3564c4}
.ben .face{background:#16806a}
.chloe .face{background:#a1438b}
.who b{display:block}
.who span{color:var(--soft);font-size:.88rem}
label{display:block;margin:1rem 0 .3rem}
input[type=text]{font:inherit;width:100%;padding:.55rem .8rem;border-radius:10px;border:1px solid var(--line);background:var(--ground);
color:inherit;letter-spacing:.2em}
ul.plain{list-style:none;margin:0 0 1.4rem;padding:0}
ul.plain li{padding:.5rem 0;border-bottom:1px solid var(--line)}
.row{display:flex;gap:.7rem;flex-wrap:wrap}
footer{margin-top:1.4rem;font-size:.85rem;color:var(--soft);max-width:29rem;text-align:center}
table{border-collapse:collapse;width:100%;font-size:.88rem}
td,th{text-align:left;padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
code{font-size:.85rem}
"""
