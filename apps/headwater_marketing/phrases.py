"""What our own copy is made of: lines of a small grammar, by move, voice, level and channel.

``= move`` opens a block; each line is ``tags: text``. Tags are voices (warm lively crisp refined), levels (easy standard), channels
and ``deal`` (only where the plan has a percentage, an earlier price or a code); without one, a line serves all. ``(a|b|)`` is a
choice, ``{slot}`` a fact, ``\n`` a new line.
Written to be true of any product: no verb agrees with a product's number, and nothing is claimed that a fact does not say.
Only characters of GSM-7.
"""

from __future__ import annotations

VOICES = ("warm", "lively", "crisp", "refined")
LEVELS = ("easy", "standard")

LINES = r"""
= greeting
warm: (Hi|Hello|Hi there) {first_name},
warm: Dear {first_name},
lively: (Hey|Hi|Hiya) {first_name}!
lively sms push: {first_name}!
crisp: {first_name},
sms push crisp: {first_name} -
refined: (Dear|Good day) {first_name},
refined email: Dear {first_name},
sms warm lively crisp refined: {brand}:
sms warm: (Hi|Hello) {first_name}, (it's|this is) {brand}.
sms lively: (Hey|Hi) {first_name}, {brand} here!
sms crisp: {brand} for {first_name}:
sms refined: Dear {first_name}, a (note|word) from {brand}.

= opening
warm easy: (How are you?|We hope you are well.|We have something for you.|This made us think of you.)
warm standard: (We hope the week is treating you kindly.|We came across something you might enjoy.)
warm standard: Here is something to brighten (an ordinary|a quiet) day.
warm standard: (Time for a little treat, perhaps?|Take a moment and have a look at this.|A small idea for your (week|day).)
lively easy: (Ready?|Look at this!|Ooh, look!|Guess what?|This is fun!|Yes, really!)
lively standard: (Drop everything for a second!|Stop scrolling for a moment!)
lively standard: (Right, you'll want to see this!|Here's one to get excited about!)
crisp easy email: (In short:|The facts:)
crisp standard email: (At a glance:|Briefly summarised:)
refined easy: (May we show you something?|A few words from us.|We have a suggestion.)
refined standard: (We should like to draw your attention to something.|Allow us a brief suggestion.)
refined standard: May we make a (considered|modest) suggestion?
refined standard: (For those who take their time in choosing:|A thought for the discerning eye.)

= offer
warm easy: (Meet|Have a look at|Say hello to) {product}.
warm easy: We (like|really like) {product}. (We hope you do too.|Maybe you will too.)
warm standard: (We think you'd get on well with|We have a feeling you'll like|We would love to show you) {product}.
warm standard: If you've been (looking for|thinking of) something like {product}, (we're here to help|come and have a look).
lively easy: (Meet|Check out|Say hi to|Hello,) {product}!
lively easy: {product}! (Yes please!|Want to see more?|What do you think?)
lively standard: (Make some room for|Get ready for|Go on, take a peek at) {product}!
crisp easy: {product}.
crisp easy: (See|Look at|For you:) {product}.
crisp standard: (Worth a look:|Worth considering:|On our shelves:) {product}.
refined easy: (Please meet|We present) {product}.
refined easy: May we present {product}?
refined standard: (It is our pleasure to present|We are pleased to present|Allow us to introduce you to) {product}.
refined standard: (Discover|Take a moment with|Make the acquaintance of) {product}, (at your leisure|in your own time).

warm easy: {product} can be yours for {price}.
warm easy: (You can have|Treat yourself to|Bring home) {product} for {price}.
warm standard: Treat yourself, or someone you're fond of, to {product} for {price}(.|, whenever you're ready.)
warm standard: Why not (treat yourself|help yourself) to {product} for {price}?
warm standard: You'll find {product} on our shelves at {price}, (so drop by when it suits you|so do have a look).
lively easy: (Get|Grab|Go for) {product} for {price}!
lively easy: {product} for {price}! (Nice!|Yes!)
lively standard: (Go on, treat yourself:|You know you want to:|Make your day:) {product} for {price}!
lively standard: All yours for {price}: {product}, (ready when you are|and a big grin to go with it)!
crisp easy: {product}, {price}.
crisp easy: {product}. {price}.
crisp standard: {product}: yours for {price}.
crisp standard: {product}, available at {price}.
crisp standard: {product} at {price}. (No fuss.|That's it.|Simple.)
refined easy: {product}, (at|for) {price}.
refined easy: We present {product} at {price}.
refined standard: (We are pleased to present|It is our pleasure to present|Permit us to recommend) {product} at {price}.
refined standard: {product} may be yours for {price}, (should it please you|at a moment of your choosing).

warm easy: You can have {product} for {price} now. Before: {was}.
warm easy: Good news: {product} for {price}. It was {was}.
warm standard: (Good news|A little something to smile about): the price of {product} has come down from {was} to {price}.
warm standard: If {was} felt like a lot for {product}, (we hope {price} feels kinder|here's a kinder price: {price}).
lively easy: {product}: was {was}, now {price}! (Wow!|Yay!|Nice!)
lively easy: Woohoo! {product} for {price}, not {was}!
lively standard: (Hold on to your hat|Drum roll, please): {product} just dropped from {was} to {price}!
lively standard: Remember {was}? Forget it! {product} (can be yours for|could be yours for) {price}!
crisp easy: {product}: {price}, was {was}.
crisp standard: {product}: {price} instead of {was}.
crisp easy: {product}. Was {was}. Now {price}.
crisp standard: {product}, down from {was} to {price}.
refined easy: {product}, now {price}. Before: {was}.
refined easy: {product} at {price}, where it was {was}.
refined standard: {product}, previously {was}, (may now be yours for|can now be yours for) {price}.
refined standard: We have lowered the price of {product} from {was} to {price}, (with our compliments|for your consideration).

warm easy: (You get|There is|Here is) {percent} off {product}.
warm easy: {percent} off {product}, (for you|just because).
warm standard: We've taken {percent} off {product}, (so you can treat yourself|and we hope it makes you smile).
warm standard: (Good things come to those who wait|Been waiting for the right moment)? Here's {percent} off {product}.
lively easy: {percent} off {product}! (Yay!|Wow!|Let's go!|Go go go!)
lively easy: (Woohoo!|Yay!|Wow!) {percent} off {product}!
lively standard: (Brace yourself|Happy dance time): we've knocked {percent} off {product}!
lively standard: We went and took {percent} off {product}, (so what are you waiting for?|and we can't stop grinning!)
crisp easy: {percent} off {product}.
crisp easy: {product}: {percent} off.
crisp standard: {product}, reduced by {percent}.
crisp standard: Reduced by {percent}: {product}.
refined easy: {percent} off {product}, (for you|with our thanks).
refined easy: Please enjoy {percent} off {product}.
refined standard: (We are pleased to offer you|It is our pleasure to offer you) {percent} off {product}(.|, with our compliments.)
refined standard: May we offer you {percent} off {product}?
refined standard: {product} may be yours with a reduction of {percent}.

warm easy: {product} for {price}. That's {percent} off.
warm standard: With {percent} off, {product} can be yours for {price}.
lively easy: {percent} off! {product} for {price}! (Yes!|Wow!|)
lively standard: {percent} off means {product} can be yours for {price}. (Dance time!|Who's in?|Come on in!)
crisp easy: {product}: {price}, {percent} off.
crisp standard: {product} at {price}, reduced by {percent}.
refined standard: With a reduction of {percent}, {product} may be yours for {price}.
refined easy: {product} at {price}, {percent} less.

warm easy: You pay {price} for {product}. Before: {was}. That's {percent} less.
warm standard: The price of {product} has come down from {was} to {price}, which saves you {percent}.
lively easy: {percent} off {product}! Was {was}, now {price}!
lively standard: From {was} to {price}: that's {percent} off {product}, (and we're grinning|and yes, we checked)!
crisp easy: {product}: {price}, was {was}, {percent} off.
crisp standard: {product}, reduced by {percent}: {price} instead of {was}.
refined easy: {product} at {price}. Before: {was}. You save {percent}.
refined standard: {product}, previously {was}, may now be yours for {price}, a saving of {percent}.

warm easy: (Use|Take) code {code} for {percent} off {product}.
warm standard: Pop {code} in at checkout and we'll take {percent} off {product}.
lively easy: Code {code} = {percent} off {product}! (Go!|Yay!)
lively standard: Type {code}, hit enter, and boom: {percent} off {product}!
crisp easy: {product}: {percent} off with {code}.
crisp standard: {product}, reduced by {percent} with {code}.
refined easy: With code {code}, please enjoy {percent} off {product}.
refined standard: The code {code} entitles you to {percent} off {product}.

warm easy: (Use|Take) code {code} for {percent} off.
warm standard: Pop in {code} at checkout and we'll take {percent} off, (with love from us|and that's that).
lively easy: {code} = {percent} off! (Yay!|Go!)
lively standard: Punch in {code} and watch {percent} vanish from the price!
crisp easy: {percent} off with {code}.
crisp standard: Reduced by {percent} with {code}.
refined easy: With code {code}, please enjoy {percent} off.
refined standard: (Kindly use|You may use) the code {code} to receive {percent} off.

warm easy: You (save|get) {percent}( off|).
warm standard: There's {percent} off in it for you.
lively easy: {percent} off! (Yay!|Wow!|Nice!)
lively standard: That's {percent} off, (no kidding|just like that)!
crisp easy: {percent} off.
crisp standard: Reduced by {percent}.
refined easy: You save {percent}.
refined standard: A reduction of {percent} awaits you.

warm easy: That's {price}.
warm standard: (All for|Yours for) {price}, (and worth a smile|when you're ready).
lively easy: {price}! (Nice!|Yes!)
lively standard: And it's all yours for {price}!
crisp easy: {price}.
crisp standard: Available at {price}.
refined easy: The price is {price}.
refined standard: The price, for your consideration: {price}.

warm easy: The price was {was}. Now it's {price}.
lively easy: Was {was}, now {price}!
lively standard: Down from {was} to {price}, just like that!
crisp easy: {price}, was {was}.
crisp standard: {price} instead of {was}.
refined easy: Before: {was}. Now: {price}.
refined standard: Previously {was}, now {price}.
warm standard: The price has come down from {was} to {price}.
warm easy: The price was {was} before.
warm standard: The price has come down from {was}.
lively easy: Before: {was}!
lively standard: It said {was} on the tag before, believe it or not!
crisp easy: Was {was}.
crisp standard: Down from {was}.
refined easy: Before: {was}.
refined standard: Previously {was}.

warm easy: {product}: {percent} off until {until}.
warm standard: Until {until}, there's {percent} off {product}, (so take your time choosing|so have a wander and a think).
lively easy: {percent} off {product} until {until}! (Go!|Yay!)
lively standard: The clock says {until}: that's how long {percent} off {product} is on!
crisp easy: {product}: {percent} off until {until}.
crisp standard: {product}, reduced by {percent} until {until}.
refined standard: Until {until}, we are pleased to offer you {percent} off {product}.
refined easy: Until {until}: {percent} off {product}.

warm easy: {product} by {brand}: (worth a look, we think|see what you think).
warm standard: {brand} would like you to meet {product}: (do take a look|come and see).
crisp easy: {brand} {product}.
crisp standard: {product}, available from {brand}.
refined easy: {product}, by {brand}.
refined standard: From the house of {brand}: {product}.

warm standard: {product} with {feature}: (we think that's rather lovely|a small joy for every day).
warm easy: {product} with {feature}. (We like that.|How nice.)
lively easy: {product} with {feature}! (Wow!|Cool!|Love it!)
lively standard: {product} and {feature}: (what a pair|now we're talking|oh yes)!
crisp easy: {product}. With {feature}.
crisp standard: {product}, complete with {feature}.
crisp easy: {product}: {feature}.
refined standard: {product}, with {feature}, (worth a closer look|for those who notice such things).
refined easy: {product}, with {feature}.
warm standard: Take {product} home for {price}, {feature} and all.
lively standard: {product}, {feature}, {price}: that's the whole story, and what a story!
crisp easy: {product}: {feature}. {price}.
crisp standard: {product}, complete with {feature}, at {price}.
refined standard: {product}, with {feature}, may be yours for {price}.
warm easy: {product} with {feature}, for {price}.
lively easy: {product} with {feature}, for {price}! (Wow!|Yes!)

= detail
warm easy: You get {feature}. (Nice, right?|How lovely.)
warm standard: (You'll find|We're rather fond of) {feature}, too.
lively easy: With {feature}! (Wow!|Cool!)
lively standard: (And get this:|Did we mention) {feature}(?|!)
crisp easy: With {feature}.
crisp standard: Complete with {feature}.
crisp easy: {feature}.
refined easy: With {feature}.
refined standard: (Note, if you will,|We would mention) {feature}.
warm easy: You also get {perk}.
warm standard: And because we like to spoil you a little: {perk}.
lively easy: Plus {perk}! (Yay!|)
lively standard: And wait, there's more: {perk}!
crisp easy: Plus {perk}.
crisp standard: Including {perk}.
refined easy: In addition: {perk}.
refined standard: We are also pleased to include {perk}.
warm easy: From {brand}, with (love|care).
warm standard: (Warmest greetings|A big hello) from all of us at {brand}.
lively easy: {brand} says hi!
lively standard: High fives all round from {brand}!
crisp easy: By {brand}.
crisp standard: Available from {brand}.
refined easy: By {brand}.
refined standard: Presented by {brand}.
sms push description email easy: By {brand}.

= code
warm easy: Your code: {code}.
warm easy: Just use the code {code}.
warm standard: Your code is {code}; pop it in at checkout(| and you're set).
lively easy: Use code {code}! (Easy!|Done!)
lively standard: The magic word? {code}!
lively standard: Type {code} at checkout and do a little dance!
crisp easy: Code: {code}.
crisp easy: Use {code}.
crisp standard: Enter {code} at checkout.
refined easy: Your code: {code}.
refined standard: (Kindly quote|Please quote) the code {code} at checkout.
warm easy: Use code {code} by {until}.
warm standard: Your code {code} is good until {until}, so no need to rush.
lively easy: Use {code} by {until}! (Go!|Yay!)
lively standard: Type in {code} before {until} is over and do a happy dance!
crisp easy: Code {code}, until {until}.
crisp standard: Enter {code} at checkout by {until}.
refined easy: Your code until {until}: {code}.
refined standard: Your code, {code}, may be used until {until}.

= deadline
warm easy: You have time until {until}.
warm standard: There's time until {until}, so (sleep on it if you like|no need to decide right away).
lively easy: Only until {until}! (Go!|)
lively standard: Put {until} in your diary, in red, that's how long you've got!
crisp easy: Until {until}.
crisp standard: Available until {until}.
refined easy: Until {until}.
refined standard: You may take your time until {until}.
sms push email refined standard: We shall be glad to hear from you until {until}.
deal warm easy: The offer runs until {until}.
deal warm standard: The offer stays open until {until}, (so take your time|so sleep on it if you like).
deal lively easy: It ends {until}, so (jump in|go go go)!
deal lively standard: Circle {until} in red, that's when it ends!
deal crisp easy: Ends {until}.
deal crisp standard: Offer available until {until}.
deal refined easy: The offer is open until {until}.
deal refined standard: This offer remains open until {until}.

= call
warm easy: (See more:|Come and look:|Have a look:) {url}
warm standard: (Come in and have a proper look:|Have a browse whenever you like:|Pop by when you have a minute:) {url}
lively easy: (Go, go, go:|Tap here:|Let's go:|Grab yours:) {url}
lively standard: (Quick, have a peek:|Your next happy moment is one tap away:|Dive right in:) {url}
crisp easy: (Shop:|Order:|More:) {url}
crisp standard: (Compare the details:|Specifications and prices:|Order online:) {url}
crisp easy: {url}
refined easy: (Please see:|See more:) {url}
refined standard: (Discover more at your leisure:|You will find the particulars here:|We invite you to take a closer look:) {url}
deal warm standard: Pop in {code} here: {url}
deal crisp easy: {code} at {url}
deal crisp standard: Enter {code} here: {url}
deal lively standard: Take {code} for a spin: {url}
deal refined standard: Kindly enter {code} here: {url}

= tap
push warm easy: (Tap to see more.|It's all in here.)
push warm standard: (Tap for a closer look whenever you like.|Tap and take your time.)
push lively easy: (Tap tap tap!|Tap!|Jump in!)
push lively standard: (Go on, tap to peek inside!|You know you want to tap!)
push crisp easy: (Tap to view.|Tap for more.)
push crisp standard: (Tap for details.|Details one tap away.)
push refined easy: (Please tap to see it.|Please tap for more.)
push refined standard: (Tap to discover more at your leisure.|Kindly tap for the particulars.)

= sign
email warm: (Warm wishes.|Take care.)
email lively: (High fives!|Big waves!|Cheers!)
email crisp: (Thanks.|Thank you.)
email refined: (With kind regards.|With our thanks.)
email warm: (Warm wishes|All our love|Take care),\nyour friends at {brand}
email lively: (High fives|Big waves|Cheers),\n{brand}
email crisp: {brand}
email refined: (With kind regards|Yours sincerely),\n{brand}

= title
warm easy: (For you|A treat for you|A small treat|With a smile)
warm standard: (A little something for you|Something to brighten your day|We came across this and smiled)
warm easy: For you, {first_name}
warm standard: {first_name}, (have a look at this when you can|this made us think of you)
warm easy: (A treat|For you|Come and see): {product}
warm standard: {product}, (and a smile to go with it|in case you need a treat)
warm easy: {product} for {price}
warm standard: Treat yourself: {product} for {price}
warm easy: A treat: {percent} off {product}
warm standard: {percent} off {product}, from us to you
warm easy: {percent} off, for you
warm standard: {percent} off, because why not treat yourself
lively easy: (Ooh, look!|Guess what!|Yay!|Look at this!)
lively standard: (Psst, you'll want to see this!|Ready for something fun?|Drop everything and peek inside!)
lively easy: Hey {first_name}, look!
lively standard: {first_name}, (guess what we've got!|you'll want to peek inside!)
lively easy: {product}!( Yay!| Woohoo!|)
lively standard: Make some room for {product}!
lively easy: {product} for {price}!( Yes!|)
lively standard: {product} can be yours for {price}!
lively easy: {percent} off {product}!( Wow!|)
lively standard: We've knocked {percent} off {product}!
lively easy: (Yay|Wow): {percent} off!
lively standard: Happy dance time: {percent} off!
crisp easy: (In brief|The facts|Details)
crisp standard: (At a glance|Details and prices inside|Worth considering)
crisp easy: {first_name}: {product}
crisp standard: For {first_name}: {product} at a glance
crisp easy: {product}
crisp standard: {product} at a glance
crisp easy: {product}: {price}
crisp standard: {product}: yours for {price}
crisp easy: {product}: {price}, was {was}
crisp standard: {product}, down from {was} to {price}
crisp easy: {percent} off {product}
crisp standard: {product}, reduced by {percent}
crisp easy: {percent} off. Code {code}.
crisp standard: {percent} off with code {code}
refined easy: (A thought for you|A few words|With our regards)
refined standard: (A considered suggestion|For your consideration|An invitation, at your leisure)
refined easy: {first_name}, a thought for you
refined standard: {first_name}, a considered suggestion
refined easy: (We present|May we present) {product}
refined standard: (Discover|The pleasure of) {product}, at your leisure
refined easy: {product} at {price}
refined standard: {product}, for your consideration at {price}
refined easy: {percent} off {product}, with thanks
refined standard: With our compliments: {percent} off {product}
refined easy: {percent} off, with thanks
refined standard: {percent} off, with our compliments

= preheader
warm easy: (Come in and have a look.|We hope you like it.)
warm standard: (Take your time, it's all inside.|We'd love to know what you think.)
warm easy: {product}. We like it. Do you?
warm standard: We'd love to know what you think of {product}.
warm easy: {product} for {price}. Have a look.
warm standard: {product} for {price}, whenever you're ready.
warm easy: You get {percent} off. We hope you like it.
warm standard: There's {percent} off, (so treat yourself|and we hope it makes you smile).
lively easy: (Go on, open it!|Look inside!|Yes, really!)
lively standard: (You'll want to see this!|No spoilers, just peek inside!)
lively easy: {product}! Look inside!
lively standard: All about {product}, and then some!
lively easy: {percent} off! Yay!
lively standard: {percent} off! We're still grinning!
lively easy: {product} for {price}? Yes please!
lively standard: {product} can be yours for {price}, so peek inside!
crisp easy: (Short and clear.|The facts.|See the price.)
crisp standard: (The details, briefly summarised.|Details and prices inside.|All the details on one page.)
crisp easy: The price and the link.
crisp standard: What it costs and where to order it online.
crisp easy: {product}, {price}.
crisp standard: {product} at {price}. Details inside.
crisp easy: {percent} off {product}.
crisp standard: {product}, reduced by {percent}. Details inside.
refined easy: (Please take a closer look.|With our regards.)
refined standard: (We invite you to take a closer look.|At your leisure, and with our compliments.)
refined easy: A few words on {product}.
refined standard: Please find the particulars of {product} inside.
refined easy: {product} at {price}.
refined standard: {product}, at {price}, for your consideration.
refined easy: {percent} off, with our thanks.
refined standard: A reduction of {percent}, with our compliments.

= headline
{product}
{product}, {price}
{product} for {price}
{percent} Off {product}
Save {percent} on {product}
{price}, Was {was}
Now {price}, Was {was}
{percent} Off With {code}
Use Code {code}
Code: {code}
{percent} Off
Save {percent}
{brand}
Shop {brand}
{product} by {brand}
{brand} {product}
Until {until}
{percent} Off Until {until}
Yours for {price}
With {feature}
Plus {perk}
Was {was}
warm easy: (Treat Yourself|A Little Treat|Come and Look|Say Hello|A Treat for Any Day)
warm standard: (Something to Smile About|Pick What Feels Right|Take Your Time Choosing|Find Something You Love)
warm easy: For You: {product}
warm standard: Treat Yourself to {product}
lively easy: (Go On, Look|Let's Go|Oh Yes|Have Fun|Ready? Go)
lively standard: (Put a Spring in Your Step|Time for a Happy Dance|You Know You Want To|Go On, Have a Peek)
lively easy: Get {product}
lively standard: Say Hi to {product}
crisp easy: (See Prices|Order Online|Clear Prices|The Facts|See Details)
crisp standard: (Compare and Choose|Specifications and Prices|No Fuss, Just Facts|Check the Whole Range)
crisp easy: {product}: Details
crisp standard: Compare {product}
refined easy: (A Quiet Pleasure|In Your Own Time|Please Browse|A Closer Look)
refined standard: (A Considered Choice|Discover at Your Leisure|For the Discerning Eye|An Invitation to Browse|At Your Convenience)
refined easy: Please Meet {product}
refined standard: Discover {product}

= adtext
{product} for {price}. (See the details and order online.|Have a look and order online.)
{product}: {price}, was {was}.
{percent} off {product}. See the details online.
{percent} off {product} with code {code}.
Use code {code} at checkout.
{product} with {feature}.
{product} by {brand}.
{brand}: {product} for {price}.
Until {until}: {percent} off {product}.
Until {until}.
{product}, {price}.
{product}.
{percent} off.
{price}, was {was}.
Plus {perk}.
With {feature}.
From {brand}.
For {price}.
Was {was}.
warm easy: (Come in and look. We are glad to help.|Take your time. Pick what you like.|We hope you like it here.)
warm standard: (Come in, have a browse and find something that feels right.|Take your time and pick what suits you.)
warm standard: Tell us what you like, and we'll be happy to help you choose.
warm easy: Treat yourself to {product}. You can see it here.
warm standard: Treat yourself, or someone you're fond of, to {product}.
warm standard: Treat yourself, or someone you're fond of, to {product} for {price}.
warm easy: {product} for {price}. Have a look. We hope you like it.
warm standard: We'd love to show you {product}, (whenever you feel like a browse|so take your time).
warm easy: You get {percent} off {product}. Treat yourself.
warm standard: There's {percent} off {product}, and we hope it makes you smile.
lively easy: (Come on in! Look around.|Look! Pick! Grin.|This is fun. Come in.)
lively standard: (Go on, have a peek: you know you want to.|Dive in, look around and grab what you like.)
lively standard: (Pick it, click it, do a happy dance.|Ready, set, browse: grins not included.)
lively easy: {product}! (Yes please.|Want to see more?|Come and look.)
lively standard: Make some room for {product}, (because you know you want to|and come see what the fuss is about)!
lively easy: {percent} off {product}! Come and look.
lively standard: We've knocked {percent} off {product}, so come on in and grab what you like!
lively easy: {product} for {price}! Yes please.
crisp easy: (See prices. Order online.|Clear prices. Order online.|See the facts. Order.)
crisp standard: (Compare specifications and prices, then order online.|All the details on one page before you order.)
crisp easy: {product}. See the price. Order online.
crisp standard: {product}: compare details and prices before you order.
crisp easy: {product}, {price}. Order online.
crisp standard: {product} at {price}: compare the details, then order online.
crisp easy: {percent} off {product}. Order online.
crisp standard: {percent} off {product}: compare the details, then order online.
refined easy: (Please take your time.|Please browse in your own time.|Take a closer look.)
refined standard: (We invite you to browse at your leisure.|For those who take their time in choosing.)
refined standard: A considered choice begins with a closer look, at a moment of your choosing.
refined easy: May we present {product}?
refined standard: It is our pleasure to present {product}, (at your leisure|for your consideration).
refined easy: With our compliments: {percent} off {product}.
refined standard: We are pleased to offer you {percent} off {product}, with our compliments.
refined easy: {product} at {price}. Please take your time.
refined standard: {product} may be yours for {price}, at a moment of your choosing.
"""
